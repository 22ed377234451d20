"""The start that comes with the package: taken where a cold start would come to it, and nowhere else."""

import json
import shutil

import gymnasium as gym
import pytest
import torch

from algorithms.checkpoint import save_policy
from algorithms.cli import parts, store_start
from algorithms.cli.config import TrainConfig
from algorithms.models.embedded import cold_start as lessons_of
from algorithms.models.embedded import stored as starts
from algorithms.models.embedded.cold_start import ColdStartConfig, build, silent
from algorithms.models.embedded.stored import FOLDER, store, stored
from algorithms.models.loading import load_policy
from arpo_envs import ConfigError

SIZE = ColdStartConfig(hidden=32, layers=1, heads=2)


def maker(**options):
    return lambda: gym.make("ARPO/SearchMini-v0", cities_per_country=3, disable_env_checker=True, **options)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Returns the folder of a stored start, and the model in it."""
    folder = tmp_path_factory.mktemp("start")
    model, tokenizer = build(maker(), SIZE, seed=3)
    store(maker(), SIZE, model, tokenizer, seed=3, folder=folder)
    return folder, model


def test_a_start_comes_back_as_it_was_stored(start):
    folder, model = start
    found = stored(maker(), SIZE, report=silent, folder=folder)
    assert found is not None
    for name, weight in found[0].state_dict().items():
        assert torch.equal(weight, model.state_dict()[name].half().float()), name
    assert found[0].dtype == torch.float32
    assert found[1].get_vocab() == build(maker(), SIZE, seed=3)[1].get_vocab()


@pytest.mark.parametrize("options", [{"hops": 1}, {"split": "test"}, {"world": "counterfactual"}, {"max_turns": 2}])
def test_another_environment_has_a_cold_start_of_its_own(start, options):
    assert stored(maker(**options), SIZE, report=silent, folder=start[0]) is None


def test_another_size_has_a_cold_start_of_its_own(start):
    assert stored(maker(), ColdStartConfig(hidden=64, layers=1, heads=2), report=silent, folder=start[0]) is None


def test_a_tokenizer_that_numbers_words_otherwise_gets_no_weights_of_another(start, monkeypatch):
    model, tokenizer = build(maker(), SIZE, seed=3)
    tokenizer.add_tokens("another")
    monkeypatch.setattr(starts, "build", lambda *arguments, **options: (model, tokenizer))
    assert stored(maker(), SIZE, report=silent, folder=start[0]) is None


def test_damaged_weights_are_refused(start, tmp_path):
    folder = shutil.copytree(start[0], tmp_path / "start")
    file = folder / "start.safetensors"
    packed = bytearray(file.read_bytes())
    packed[-1] ^= 1
    file.write_bytes(packed)
    with pytest.raises(ConfigError, match="damaged"):
        stored(maker(), SIZE, report=silent, folder=folder)


def test_the_start_of_the_package_is_that_of_the_default_run(tmp_path, monkeypatch):
    """Where it fails, the lessons or the tokenizer of the default environment have changed: `make start` makes it anew."""
    monkeypatch.setattr(lessons_of, "cold_start", lambda *lessons, **others: pytest.fail("it is not taught again"))
    config = TrainConfig(output=tmp_path, seed=5)
    folder = parts.starting_policy(config, tmp_path, report=silent)
    weights = load_policy(folder)[0].state_dict()
    found = stored(config.make_env(*config.train_args), ColdStartConfig(), report=silent)
    assert found is not None
    assert all(torch.equal(weight, weights[name]) for name, weight in found[0].state_dict().items())
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 3e6, "bytes that everybody downloads"


def test_a_fresh_cold_start_is_had_for_the_asking(tmp_path, monkeypatch):
    taught = []
    monkeypatch.setattr(lessons_of, "cold_start", lambda *lessons, seed, **others: taught.append(seed))
    parts.starting_policy(TrainConfig(output=tmp_path, seed=5, cold_start="fresh"), tmp_path, report=silent)
    assert taught == [5]


def test_asking_for_it_beside_a_policy_that_has_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cold-start would have no effect"):
        TrainConfig(policy=str(tmp_path), cold_start="fresh")


def test_the_start_of_a_run_is_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(store_start, "ColdStartConfig", lambda: SIZE)
    config = TrainConfig(env_args=("cities_per_country=3",), seed=4, output=tmp_path)
    config.save(tmp_path)
    model, tokenizer = build(config.make_env(*config.train_args), SIZE, seed=4)
    save_policy(tmp_path / "cold_start", model, tokenizer)
    store_start.main(tmp_path, tmp_path / "stored")
    assert stored(config.make_env(*config.train_args), SIZE, report=silent, folder=tmp_path / "stored") is not None
    assert json.loads((tmp_path / "stored" / "start.json").read_text(encoding="utf-8"))["seed"] == 4
