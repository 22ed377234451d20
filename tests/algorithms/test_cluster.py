"""Rollouts in other processes give the trees of one, whatever happens to the processes."""

import asyncio
import multiprocessing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from cluster_toys import HASTY, PLAN, InProcess, Scripted, Weightless, alone, disaster, elsewhere, engines, starts
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import tiny_model
from rollout_toys import CountEnv, Plan

from algorithms.cluster import NoEngines
from algorithms.cluster.parcel import packed, unpacked
from algorithms.cluster.published import as_numbers, weights_in, write_published
from algorithms.cluster.worker import OtherWeights, Worker
from algorithms.learner import WeightSource
from algorithms.policies import Sampling
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.policies.served import ServerFault
from algorithms.rollout import Collected, Failures, RolloutError
from algorithms.tree import Status
from arpo_envs import ConfigError

PROMPTS = 9


@cache
def one() -> Collected:
    """Returns what one process collects."""
    found = asyncio.run(alone(CountEnv, PROMPTS))
    assert len({tree.to_json() for tree in found.trees}) == PROMPTS
    assert any(node.origin == "branch" for tree in found.trees for node in tree.nodes)
    return found


# --- whatever happens, with workers in this process --------------------------------------------------------------

Fates = st.lists(st.sampled_from(["", "before", "after"]), max_size=12)


@settings(max_examples=40, deadline=None)
@given(fates=Fates, count=st.integers(0, PROMPTS), number=st.integers(1, 3), attempts=st.integers(1, 3))
def test_no_prompt_is_lost_or_doubled_and_trees_are_those_of_one_process(
    fates: list[str], count: int, number: int, attempts: int
) -> None:
    launcher = InProcess(iter(fates))
    failures = Failures(lambda what, error: None)

    async def run() -> Collected:
        async with engines(launcher, count=number, patience=replace(HASTY, attempts=attempts, pause=0.0)) as policy:
            return await elsewhere(policy, CountEnv, count, failures=failures)

    found = asyncio.run(run())
    assert [tree.meta["seed"] for tree in found.trees] == [start.seed for start in starts(count)]
    grown = [(a, b) for a, b in zip(found.trees, one().trees, strict=False) if a.nodes[1].status is not Status.POLICY_FAULT]
    assert all(a == b for a, b in grown)
    assert sorted(launcher.seen) == sorted((tree.meta["seed"], 7) for tree, _ in grown), (
        "each is grown once, with these weights"
    )
    lost = len(found.trees) - len(grown)
    struck = sum(fate != "" for fate in fates)
    assert found.counts["engines_lost"] <= struck
    assert launcher.made <= number + struck
    if struck < attempts:
        assert lost == 0
    assert sum(times for _, _, times in failures.counted()) == lost * PLAN.rollouts
    assert all(len(tree.leaves()) == PLAN.rollouts for tree in found.trees)
    assert launcher.alive == []


def struck(launcher: InProcess, count: int = 2, **told: Any) -> tuple[Collected, list[str]]:
    async def run() -> tuple[Collected, list[str]]:
        async with engines(launcher, **told) as policy:
            return await elsewhere(policy, CountEnv, count, failures=Failures(lambda what, error: None)), policy.lines

    return asyncio.run(run())


def test_a_prompt_that_costs_an_engine_each_time_becomes_a_failed_tree() -> None:
    found, _ = struck(InProcess(iter(["before"] * 3)), 1)
    assert {node.status for node in found.trees[0].nodes[1:]} == {Status.POLICY_FAULT}
    assert found.trees[0].nodes[1].fault == "Lost: An engine was lost each of 3 times: Struck before."
    assert isinstance(found.error, RolloutError), "nothing is left of the batch"
    assert found.counts == {"engines_lost": 3.0, "prompts_retried": 2.0}


def test_an_engine_without_a_sign_of_life_is_replaced() -> None:
    found, lines = struck(InProcess(iter(["mute"])), PROMPTS, patience=replace(HASTY, look=0.05, silence=0.05))
    assert found.trees == one().trees
    assert lines == ["engine 1 was lost: It gave no sign of life for 0.1 seconds."]


def test_an_engine_that_does_not_take_the_weights_is_made_anew() -> None:
    launcher = InProcess(iter(["", "before"]), method="load")
    found, _ = struck(launcher, PROMPTS)
    assert (found.trees, launcher.made) == (one().trees, 3)


def test_engines_that_cannot_be_started_end_a_run_at_its_beginning_only() -> None:
    with pytest.raises(NoEngines, match=r"None of 2 engines could be started\. OSError: no such device"):
        struck(InProcess(iter([])), make=Scripted("broken"))
    launcher = InProcess(iter([]))

    async def run() -> Collected:
        async with engines(launcher) as policy:
            for engine in policy.fleet.all:
                policy.fleet._lose(engine)
            policy.fleet._make = Scripted("broken")
            await policy.load({}, 1)
            return await elsewhere(policy, CountEnv, 2, failures=Failures(lambda what, error: None))

    found = asyncio.run(run())
    assert {tree.nodes[1].fault for tree in found.trees} == {"OSError: no such device"}


def test_each_engine_can_be_asked_alone_and_another_one_draws_for_one_that_is_lost() -> None:
    launcher = InProcess(iter(["", "", "before"]), method="draw")

    async def run() -> list[Any]:
        async with engines(launcher) as policy:
            found = policy.engines()
            assert list(found) == ["place 1", "place 2"]
            drawn = [await generate([60], Sampling(max_tokens=9), seed=1) for generate in found.values()]
            drawn.append(await policy.generate([60], Sampling(max_tokens=9), seed=1))
            assert [engine.is_alive for engine in policy.fleet.all] == [False, True], "the second one was asked instead"
            assert list(policy.engines()) == ["place 2"]
            with pytest.raises(ServerFault, match="It is not there"):
                await found["place 1"]([60], Sampling(max_tokens=9), seed=1)
            return drawn

    one, two, other = asyncio.run(run())
    assert one.tokens == two.tokens == other.tokens
    assert launcher.made == 2, "none was made anew to answer"


def test_a_mistake_is_raised_as_itself() -> None:
    with pytest.raises(ConfigError, match="These parts do not fit together"):
        struck(InProcess(iter([])), make=Scripted("mistake"))

    async def run(make_env: Any, plan: Plan) -> None:
        async with engines(InProcess(iter([]))) as policy:
            await elsewhere(policy, make_env, 2, plan)

    with pytest.raises(ConfigError, match="at least one rollout per prompt, got 0"):
        asyncio.run(run(CountEnv, Plan(rollouts=0)))
    with pytest.raises(ConfigError, match="cannot be sent to another process"):
        asyncio.run(run(lambda: CountEnv(), PLAN))


def test_a_worker_collects_with_the_weights_asked_for_and_no_others() -> None:
    worker = Worker(Scripted())

    async def run() -> None:
        await worker.answer("load", {}, 7)
        answer = await worker.answer("collect", b"", [], 0, 8)
        assert isinstance(answer.error, OtherWeights)
        assert "version 8" in str(answer.error)

    asyncio.run(run())


def test_single_requests_reach_one_engine_together_and_are_asked_again() -> None:
    launcher = InProcess(iter(["after"]), method="draw")

    async def run() -> list[Any]:
        async with engines(launcher) as policy:
            assert (policy.version, policy.context_length, policy.vocabulary_size) == (7, 1 << 20, 0x110000)
            asked = [policy.generate([60 + n], Sampling(max_tokens=9), seed=n) for n in range(3)]
            return await asyncio.gather(*asked)

    async def here() -> list[Any]:
        policy = ScriptedPolicy(Scripted()().policy.script, version=7)  # type: ignore[attr-defined]
        return [await policy.generate([60 + n], Sampling(max_tokens=9), seed=n) for n in range(3)]

    assert asyncio.run(run()) == asyncio.run(here())


# --- with real processes -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What engines collected in several batches, one after the other."""

    batches: dict[str, Collected]
    lines: list[str]
    folder: Path


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Two processes, which are killed, hang and are slow."""
    folder = tmp_path_factory.mktemp("processes")

    async def run() -> Found:
        batches = {}
        async with engines(Weightless(folder / "run"), patience=replace(HASTY, slow=0.1)) as policy:
            for what, times in (("undisturbed", 0), ("killed", 1), ("stopped", 1), ("slow", 1)):
                batches[what] = await elsewhere(policy, disaster(folder / what, what, times), PROMPTS)
                assert not any((folder / what).iterdir())
            return Found(batches, policy.lines, folder)

    return asyncio.run(run())


@pytest.mark.parametrize(("what", "lost"), [("undisturbed", 0), ("killed", 1), ("stopped", 1), ("slow", 0)])
def test_processes_give_the_trees_of_one_whatever_happens_to_them(found: Found, what: str, lost: int) -> None:
    batch = found.batches[what]
    assert [tree.to_json() for tree in batch.trees] == [tree.to_json() for tree in one().trees]
    assert batch.counts["engines_lost"] == lost
    assert (batch.counts["prompts_retried"] > 0) == (lost > 0)


def test_a_slow_process_is_told_from_one_that_is_stuck(found: Found) -> None:
    for what in ("Its process ended.", "It gave no sign of life"):
        assert sum(what in line for line in found.lines) == 1, found.lines
    assert any("is slow" in line for line in found.lines), found.lines


def test_processes_leave_nothing_behind(found: Found) -> None:
    assert multiprocessing.active_children() == []
    assert not (found.folder / "run" / "cluster").exists()


# --- what travels --------------------------------------------------------------------------------------------


def test_trees_travel_as_they_are_and_compressed() -> None:
    assert unpacked(packed(one().trees)) == one().trees
    assert len(packed(one().trees)) < sum(tree.nbytes for tree in one().trees)


@pytest.mark.parametrize("tied", [True, False])
def test_weights_arrive_bit_for_bit_tied_ones_once(tied: bool, tmp_path: Path) -> None:
    model = tiny_model(tie_word_embeddings=tied).to(torch.bfloat16)
    weights = WeightSource(model.state_dict(), tied=["lm_head.weight"] if tied else [])
    written = write_published(weights, tmp_path / "weights")
    for published in (written, as_numbers(weights)):
        arrived = weights_in(published)
        assert arrived.keys() == weights.keys()
        assert all(torch.equal(arrived[name], weights[name]) for name in weights)
        assert (arrived["lm_head.weight"].data_ptr() == arrived["model.embed_tokens.weight"].data_ptr()) == tied


def test_the_store_takes_weights_from_where_the_learner_has_them() -> None:
    """A second copy in the process that trains would cost as much memory as the model."""
    weights = tiny_model().state_dict()
    numbers = as_numbers(WeightSource(weights))
    assert all(one.bytes_N.ctypes.data == weights[name].data_ptr() for name, one in numbers.items())  # type: ignore[union-attr]
