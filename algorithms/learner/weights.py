"""A model's weights on their way to a policy: one whole tensor at a time, however many ranks hold parts of it."""

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file


class Described(NamedTuple):
    """What is known of a weight before it is there.

    Args:
        shape: of the whole.
        dtype: of its numbers.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """How much room it takes."""
        return math.prod(self.shape) * self.dtype.itemsize


class WeightSource(Mapping[str, torch.Tensor]):
    """A state dict of a `transformers` model whose tensors are put together when they are asked for, and not kept.

    Where a model lies on several ranks, all of them have to ask, in the same order: each then gets the whole tensor.

    Args:
        tensors: by name, or each rank's part of them.
        deltas: what has to be added to some of them, by name: adapters.
        tied: names of those that are there under another name as well, which a file leaves out.

    >>> source = WeightSource({"weight": torch.ones(2)}, {"weight": lambda: torch.tensor([1.0, 2.0])})
    >>> source.metadata()
    {'weight': Described(shape=(2,), dtype=torch.float32)}
    >>> list(source.items())
    [('weight', tensor([2., 3.]))]
    """

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        deltas: Mapping[str, Callable[[], torch.Tensor]] | None = None,
        tied: Collection[str] = (),
    ) -> None:
        self._tensors, self._deltas, self.tied = tensors, deltas or {}, frozenset(tied)

    def metadata(self) -> dict[str, Described]:
        """Returns shape and precision of each weight, in the order of iteration; nothing is computed for it."""
        return {name: Described(tuple(tensor.shape), tensor.dtype) for name, tensor in self._tensors.items()}

    def sharing(self) -> dict[str, str]:
        """Returns for each name in `tied` the one under which a file has that weight; no weight is put together for it."""
        written = {_place(tensor): name for name, tensor in self._tensors.items() if name not in self.tied}
        return {name: written[_place(self._tensors[name])] for name in self.tied}

    def snapshot(self, copy: Callable[[torch.Tensor], torch.Tensor]) -> "WeightSource":
        """Returns the weights as they are now; those that share memory do so afterwards.

        Args:
            copy: returns a copy of a weight, or of this rank's part of it.
        """
        shared: dict[Any, torch.Tensor] = {}
        found: dict[str, torch.Tensor] = {}
        for name, tensor in self._tensors.items():
            if name in self._deltas:
                found[name] = copy(self._part(name))
            else:
                if (place := _place(tensor)) not in shared:
                    shared[place] = copy(tensor)
                found[name] = shared[place]
        return WeightSource(found, tied=self.tied)

    def _part(self, name: str) -> torch.Tensor:
        """Returns a weight, or this rank's part of it."""
        tensor = self._tensors[name]
        if name in self._deltas:
            with torch.no_grad():
                tensor = tensor + self._deltas[name]().to(tensor.dtype)
        return tensor

    def __getitem__(self, name: str) -> torch.Tensor:
        """Returns a weight, whole."""
        part: Any = self._part(name)
        whole: torch.Tensor = part.full_tensor() if hasattr(part, "full_tensor") else part
        return whole

    def __iter__(self) -> Iterator[str]:
        """Yields the names."""
        return iter(self._tensors)

    def __len__(self) -> int:
        """Returns how many weights there are."""
        return len(self._tensors)


def copied(weights: Mapping[str, Any]) -> WeightSource:
    """Returns a copy of all weights in the memory of the CPU; those that share memory share it there, too.

    >>> weight = torch.ones(2)
    >>> copy = copied(WeightSource({"a": weight, "b": weight}, tied=["b"]))
    >>> weight[0] = 3.0
    >>> copy["b"], copy["a"] is copy["b"], sorted(copy.tied)
    (tensor([1., 1.]), True, ['b'])
    """
    whole = dict(weights)  # all at once, so that no two have the same place one after the other
    copies: dict[Any, torch.Tensor] = {}
    for tensor in whole.values():
        if _place(tensor) not in copies:
            copies[_place(tensor)] = tensor.detach().to("cpu", copy=True)
    tied = weights.tied if isinstance(weights, WeightSource) else ()
    return WeightSource({name: copies[_place(tensor)] for name, tensor in whole.items()}, tied=tied)


def _place(tensor: Any) -> tuple[Any, ...]:
    here = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return (here.data_ptr(), tuple(tensor.shape), tensor.dtype)


def write_weights(folder: Path, source: WeightSource, *, writes: bool = True, largest: int = 2**31) -> None:
    """Writes weights as the safetensors of a Hugging Face folder, no more of them in memory than one file holds.

    A rank that does not write has no more than one of them in memory.

    Args:
        folder: exists.
        source: of all weights. Where they lie on several ranks, each of these calls this function.
        writes: whether this rank is the one that writes.
        largest: bytes of a file, unless a single weight has more.

    Raises:
        SafetensorError: there is no room, or no permission; raised when all weights have been asked for.
    """
    parts = list(_parts(source, largest))
    files = ["model.safetensors"]
    if len(parts) > 1:
        files = [f"model-{number:05d}-of-{len(parts):05d}.safetensors" for number in range(1, len(parts) + 1)]
    error: Exception | None = None
    for file, names in zip(files, parts, strict=True):
        tensors = {}
        for name in names:
            whole = source[name]
            if writes and error is None:
                tensors[name] = whole.detach().cpu().contiguous()
            del whole  # before the next one is put together: a rank that does not write holds one at a time
        if tensors:
            try:
                save_file(tensors, folder / file, metadata={"format": "pt"})
            except Exception as trouble:  # noqa: BLE001  # the other ranks still wait for this one to ask for the rest
                error = trouble.with_traceback(None)  # which would hold the tensors of this file
    if error is not None:
        raise error
    if writes and len(parts) > 1:
        described = source.metadata()
        total = sum(described[name].bytes for names in parts for name in names)
        places = {name: file for file, names in zip(files, parts, strict=True) for name in names}
        index = {"metadata": {"total_size": total}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _parts(source: WeightSource, largest: int) -> Iterator[list[str]]:
    """Yields the names of the weights that share a file."""
    inside: list[str] = []
    size = 0
    for name, described in source.metadata().items():
        if name in source.tied:
            continue
        if inside and size + described.bytes > largest:
            yield inside
            inside, size = [], 0
        inside.append(name)
        size += described.bytes
    yield inside
