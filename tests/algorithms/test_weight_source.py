"""Weights on their way: described before they are there, put together one at a time, written a file at a time."""

import json
import weakref
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from model_toys import byte_tokenizer, tiny_model
from safetensors import SafetensorError

from algorithms.checkpoint import save_policy
from algorithms.learner import WeightSource, merged_state, write_weights
from algorithms.models.loading import load_policy


class Asked(WeightSource):
    """Remembers what it was asked for."""

    def __init__(self, source: WeightSource) -> None:
        super().__init__(source._tensors, source._deltas, source.tied)
        self.names: list[str] = []

    def __getitem__(self, name: str) -> torch.Tensor:
        self.names.append(name)
        return super().__getitem__(name)


def test_it_is_a_state_dict_and_computes_nothing_to_describe_it() -> None:
    model = tiny_model(tie_word_embeddings=True)
    source = Asked(merged_state(model))
    assert {name: (it.shape, it.dtype) for name, it in source.metadata().items()} == {
        name: (tuple(it.shape), it.dtype) for name, it in model.state_dict().items()
    }
    assert source.metadata()["model.norm.weight"].bytes == 4 * 32
    assert not source.names
    tiny_model(tie_word_embeddings=True, seed=1).load_state_dict(source)
    assert source.names == list(source)
    assert source.tied == {"lm_head.weight"}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("largest", [1, 40_000, 2**31])
def test_files_of_any_size_are_read_as_one_model(largest: int, tied: bool, tmp_path: Path) -> None:
    model = tiny_model(tie_word_embeddings=tied)
    save_policy(tmp_path, tiny_model(tie_word_embeddings=tied, seed=1), byte_tokenizer())
    (tmp_path / "model.safetensors").unlink()
    write_weights(tmp_path, merged_state(model), largest=largest)
    stored = load_policy(tmp_path)[0].state_dict()
    assert all(torch.equal(stored[name], weight) for name, weight in model.state_dict().items())
    sizes = [file.stat().st_size for file in tmp_path.glob("*.safetensors")]
    assert (len(sizes) == 1) == (largest == 2**31)
    if largest > 1:
        assert max(sizes) < largest + 10_000, "and what the names take"
    else:
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        assert len(set(index["weight_map"].values())) == len(sizes) == len(model.state_dict()) - tied


def test_a_rank_that_does_not_write_asks_in_the_same_order(tmp_path: Path) -> None:
    source = Asked(merged_state(tiny_model()))
    write_weights(tmp_path, source, writes=False, largest=5000)
    assert source.names == list(source)
    assert not list(tmp_path.iterdir())


class Fresh(WeightSource):
    """Puts each tensor together anew, as ranks do, and counts those of which somebody still has one."""

    def __init__(self) -> None:
        super().__init__({f"weight {number}": torch.zeros(10) for number in range(6)})
        self.alive = self.most = 0

    def __getitem__(self, name: str) -> torch.Tensor:
        numbers = np.zeros(10, dtype=np.float32)
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(numbers, self._gone)
        return torch.from_numpy(numbers)  # keeps them for as long as anybody has a view of it

    def _gone(self) -> None:
        self.alive -= 1


@pytest.mark.parametrize(("writes", "room", "most"), [(True, True, 3), (False, True, 1), (True, False, 3)])
def test_only_a_rank_that_writes_holds_the_tensors_of_a_file(writes: bool, room: bool, most: int, tmp_path: Path) -> None:
    source = Fresh()
    with nullcontext() if room else pytest.raises((OSError, SafetensorError)):
        write_weights(tmp_path if room else tmp_path / "missing", source, writes=writes, largest=120)
    assert source.most == most
    assert source.alive == 0


def test_without_room_it_asks_for_the_rest_before_it_says_so(tmp_path: Path) -> None:
    source = Asked(merged_state(tiny_model()))
    with pytest.raises((OSError, SafetensorError)):
        write_weights(tmp_path / "missing", source, largest=5000)
    assert source.names == list(source)
