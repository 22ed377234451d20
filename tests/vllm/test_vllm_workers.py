"""Weights on their way to vLLM in two workers: both are probed after each update, and a faulty one is named."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_cli_train import arguments, exit_status, said
from test_weight_probe import moved
from vllm_toys import MARKS, DrawnByVLLM
from worker_faults import EXTENSION, PLANTED

from algorithms.checkpoint import latest, save_policy
from algorithms.cli.environments import env_maker
from algorithms.cluster import ClusterPolicy, Engines
from algorithms.cluster.local import LocalLauncher
from algorithms.learner import TorchLearner
from algorithms.models.agreement import Arrival, WeightProbe, WeightsDiffer
from algorithms.models.embedded.cold_start import ColdStartConfig, build, cold_start
from algorithms.rendering import TextRenderer

pytestmark = [*MARKS, pytest.mark.timeout(1500), pytest.mark.usefixtures("wide_terminal")]

FAULTS = {
    "no-op": "it still draws with those of step 3",
    "half": "a part of them did not arrive, or not in its place",
    "tied": "the matrix that embedding and head share did not arrive in the head, where it is still that of step 3",
}
"""What the second worker's engine does with an update, and what is said of it."""
WORKERS = ["--cluster", "local", "--engines", "2", "--engine", "vllm", "--verify-every", "1"]
ENGINE = ["--engine-args", "enforce_eager=True", "cache_bytes=268435456", f"worker_extension_cls={EXTENSION}"]


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the file in which a fault is written to plant it."""
    monkeypatch.setenv(PLANTED, str(tmp_path / "planted"))
    return tmp_path / "planted"


def test_every_update_is_seen_to_arrive_at_both_and_faults_of_the_second_are_found(
    save_tiny: Callable[..., tuple[Path, Any]], planted: Path, tmp_path: Path
) -> None:
    folder, model = save_tiny("qwen2", tie_word_embeddings=True)

    async def run() -> tuple[list[list[Arrival]], dict[str, str]]:
        arrived, caught = [], {}
        learner = TorchLearner(model)
        policy = ClusterPolicy(Engines(LocalLauncher(tmp_path / "run"), DrawnByVLLM(folder, EXTENSION), 2))
        try:
            await policy.load(learner.weights(), 0)
            probe = WeightProbe(policy, learner)
            await probe.begin()
            for step in (1, 2, 3):
                moved(learner.model, step, 1e-3)
                await policy.load(learner.weights(), step)
                arrived.append(await probe.require())

            old = {name: tensor.clone() for name, tensor in learner.weights().items()}
            moved(learner.model, 4, 1e-3)
            for fault in FAULTS:
                await policy.load(old, 3)
                planted.write_text(fault, encoding="utf-8")
                await policy.load(learner.weights(), 4)
                planted.unlink()
                with pytest.raises(WeightsDiffer) as found:
                    await probe.require()
                caught[fault] = str(found.value)
            await policy.load(learner.weights(), 4)
            arrived.append(await probe.require())
            assert policy.fleet.lost == 0
            return arrived, caught
        finally:
            await policy.close()

    arrived, caught = asyncio.run(run())
    assert [[(one.fine, one.known) for one in both] for both in arrived] == [[(True, True)] * 2] * 4, arrived
    assert all(one.nats <= one.allowed < one.moved for both in arrived for one in both), arrived
    for fault, differs in FAULTS.items():
        told = f"The engine at place 2 does not draw with the learner's weights of step 4: {differs}."
        assert told in caught[fault], caught[fault]


@pytest.fixture
def imitator(tmp_path: Path) -> Path:
    """Returns the folder of a tiny policy that writes actions, and ties embedding and head, which vLLM holds apart."""
    make_env = env_maker("ARPO/SearchMini-v0", {"cities_per_country": 4})
    phases = {"echo_steps": 0, "drill_steps": 0, "imitation_steps": 25, "imitation_rate": 1e-2}
    size = ColdStartConfig(hidden=64, layers=1, heads=2, batch=16, lessons=100, **phases)
    model, tokenizer = build(make_env, size, seed=0)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    renderer = TextRenderer(tokenizer, with_instructions=False)
    cold_start(make_env, model, tokenizer, renderer, size, seed=0, report=lambda *progress: None)
    save_policy(tmp_path / "policy", model, tokenizer)
    (tmp_path / "policy" / "embedded.json").write_text('{"with_instructions": false}', encoding="utf-8")
    return tmp_path / "policy"


def test_a_run_ends_if_an_update_arrives_at_one_worker_only(
    imitator: Path, planted: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, require = tmp_path / "run", WeightProbe.require
    arrived: list[list[Arrival]] = []

    async def and_then_planted(probe: WeightProbe) -> list[Arrival]:
        arrived.append(await require(probe))
        planted.write_text("tied", encoding="utf-8")
        return arrived[-1]

    monkeypatch.setattr(WeightProbe, "require", and_then_planted)
    steps = ["--learning-rate", "2e-3", "--adam-epsilon", "1e-8"]
    assert exit_status(arguments(imitator, run, *steps, *WORKERS, *ENGINE, steps=2)) == 2
    told = said(capsys)
    assert [[(one.fine, one.known) for one in both] for both in arrived] == [[(True, True)] * 2], (arrived, told)
    differs = FAULTS["tied"].replace("step 3", "step 1")
    assert f"The engine at place 2 does not draw with the learner's weights of step 2: {differs}." in told
    assert f"The run is saved as step 2. Continue with: arpo train --resume {run}" in told
    found = latest(run)
    assert found is not None
    assert found.step == 2
