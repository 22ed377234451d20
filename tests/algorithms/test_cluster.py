"""Rollouts in other processes give the trees of one, whatever happens to the processes."""

import asyncio
import multiprocessing
import os
import shutil
import signal
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from cluster_toys import (
    HASTY,
    PLAN,
    InProcess,
    Mortals,
    Nesting,
    Scripted,
    Weightless,
    alone,
    disaster,
    elsewhere,
    engines,
    starts,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import byte_tokenizer, tiny_model
from rollout_toys import CountEnv, Plan, varied

from algorithms.cluster import ClusterPolicy, Engines, Equipment, Lost, NoEngines
from algorithms.cluster.local import LocalLauncher
from algorithms.cluster.parcel import packed, unpacked
from algorithms.cluster.published import as_numbers, weights_in, write_published
from algorithms.cluster.worker import OtherWeights, Worker
from algorithms.learner import WeightSource
from algorithms.models.agreement import require_engine
from algorithms.models.agreement.texts import Texts
from algorithms.models.own import OwnModel
from algorithms.policies import DTYPE, Generation, Sampling
from algorithms.policies.local import LocalPolicy
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.policies.served import ServerFault
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout import GROWN_AGAIN, Collected, Failures, RolloutError, batch
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
    assert found.counts == dict.fromkeys(GROWN_AGAIN, 0.0) | {"engines_lost": 3.0, "prompts_retried": 2.0}


def test_what_trees_cost_that_a_worker_grew_again_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_FIRST_WAIT", 0.0)

    async def run(where: str) -> Collected:
        tool = disaster(tmp_path / where, "loses its tool", 3)
        if where == "here":
            return await alone(tool, PROMPTS)
        async with engines(InProcess(iter([])), count=1) as policy:
            return await elsewhere(policy, tool, PROMPTS)

    for where in ("here", "elsewhere"):
        found = asyncio.run(run(where))
        assert found.trees == one().trees
        assert 0 < found.counts["trees_grown_again"] <= 3.0, where
        assert found.counts["tokens_lost"] > 0.0


def test_an_engine_without_a_sign_of_life_is_replaced() -> None:
    found, lines = struck(InProcess(iter(["mute"])), PROMPTS, patience=replace(HASTY, look=0.05, silence=0.05))
    assert found.trees == one().trees
    assert lines == ["engine 1 was lost: It gave no sign of life for 0.1 seconds."]


@pytest.mark.parametrize("requests", [0, 1, 7, 30])
def test_a_worker_whose_engine_died_is_made_anew_and_its_prompts_are_asked_again(requests: int) -> None:
    found, lines = struck(InProcess(iter([])), PROMPTS, make=Mortals(1, requests))
    assert found.trees == one().trees
    assert found.counts["engines_lost"] == 1
    assert lines == ["engine 1 was lost: Its policy draws nothing any more: RuntimeError: The engine's process died."]


def test_prompts_that_cost_an_engine_its_policy_each_time_become_failed_trees() -> None:
    found, _ = struck(InProcess(iter([])), 1, make=Mortals(99, 1))
    assert {node.status for node in found.trees[0].nodes[1:]} == {Status.POLICY_FAULT}
    assert "lost each of 3 times: Its policy draws nothing any more" in str(found.trees[0].nodes[1].fault)


def test_an_engine_that_fails_on_a_prompt_only_is_kept() -> None:
    def sometimes(before: str, seed: int) -> str:
        if seed % 3 == 1:
            raise ValueError("not this one")
        return "<answer>1</answer>"

    def make() -> Equipment:
        return Equipment(ScriptedPolicy(sometimes), ScriptedRenderer())

    found, lines = struck(InProcess(iter([])), PROMPTS, make=make)
    assert (found.counts["engines_lost"], lines) == (0, [])
    failed = [leaf for tree in found.trees for leaf in tree.nodes[1:] if leaf.status is Status.POLICY_FAULT]
    assert 0 < len(failed) < PROMPTS * PLAN.rollouts
    assert {leaf.fault for leaf in failed} == {"ValueError: not this one"}


def test_a_mistake_that_shows_in_every_draw_is_raised_as_itself_and_costs_no_engine() -> None:
    class Refused(ScriptedPolicy):
        async def generate(self, *arguments: Any, **told: Any) -> Generation:
            raise ConfigError("401: this key is no longer accepted.")

    found, lines = struck(InProcess(iter([])), PROMPTS, make=lambda: Equipment(Refused(varied), ScriptedRenderer()))
    assert (found.counts["engines_lost"], lines) == (0, [])
    assert isinstance(found.error, ConfigError)
    assert "no longer accepted" in str(found.error)


def test_an_engine_that_died_is_found_by_whatever_it_is_asked() -> None:
    async def run() -> None:
        async with engines(InProcess(iter([])), Mortals(1, 1)) as policy:
            for _ in range(2):
                await policy.generate([60], Sampling(max_tokens=9), seed=1)
            assert [engine.is_alive for engine in policy.fleet.all] == [False, True], "the second one answered instead"
            await policy.load({}, 8)
        async with engines(InProcess(iter([])), Mortals(1, 0)) as policy:
            await policy.forget()
            assert [engine.is_alive for engine in policy.fleet.all] == [False, True]
            assert policy.lines == ["engine 1 was lost: it did not forget: RuntimeError: The engine's process died."]

    asyncio.run(run())


@pytest.mark.parametrize("method", ["load", "forget", "sleep", "draw"])
@pytest.mark.parametrize("fate", ["mute", "hangs"])
@pytest.mark.timeout(30)
def test_an_engine_that_is_stuck_in_anything_is_replaced(method: str, fate: str) -> None:
    launcher = InProcess(iter(["", "", fate] if method == "load" else [fate]), method)
    patience = replace(HASTY, look=0.02, silence=0.02, request=0.1)

    async def run() -> tuple[list[str], Collected]:
        async with engines(launcher, patience=patience) as policy:
            if method == "draw":
                await policy.generate([60], Sampling(max_tokens=9), seed=1)
            elif method != "load":
                await getattr(policy, method)()
            await policy.load({}, 7)
            return policy.lines, await elsewhere(policy, CountEnv, PROMPTS)

    lines, found = asyncio.run(run())
    assert (found.trees, launcher.made) == (one().trees, 3)
    why = "gave no sign of life for 0.04" if fate == "mute" else f"did not {method} within 0.1"
    assert [f"engine 1 was lost: It {why} seconds."] * (method != "draw") == lines


def test_the_check_of_a_run_allows_what_rounding_explains_in_the_engines_own_precision() -> None:
    model = tiny_model()

    async def run() -> Texts:
        make = lambda: Equipment(LocalPolicy(tiny_model(), byte_tokenizer(), context_length=64), ScriptedRenderer())  # noqa: E731
        policy = ClusterPolicy(Engines(InProcess(iter([])), make, 1, HASTY))
        await policy.load(model.state_dict(), 1)
        assert DTYPE.of(policy) is torch.float32
        texts = Texts.of(OwnModel(model), policy)
        policy.fleet._lose(policy.fleet.all[0])
        policy.fleet._make = Scripted("broken")
        with pytest.raises(Lost, match="no such device"):  # no mistake, for which a run would be refused
            await require_engine(policy, model)
        return texts

    texts = asyncio.run(run())
    assert texts.engine_eps == texts.eps, "not that of bfloat16"


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
    assert found.counts["engines_lost"] == 0, "none was there to be lost"


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


def test_an_answer_that_no_engine_can_be_started_for_is_the_machinerys_fault() -> None:
    async def run() -> None:
        async with engines(InProcess(iter([]))) as policy:
            for engine in policy.fleet.all:
                policy.fleet._lose(engine)
            policy.fleet._make = Scripted("broken")
            with pytest.raises(Lost, match="It could not be started: OSError: no such device"):
                await policy.generate([60], Sampling(max_tokens=9), seed=1)

    asyncio.run(run())


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
        answer = await worker.answer("begin", b"", 8)
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


def test_what_a_worker_has_started_ends_with_it_whoever_ends_it(tmp_path: Path) -> None:
    nesting = Nesting(tmp_path / "told")
    nesting.told.mkdir()

    async def run() -> None:
        launcher = Weightless(tmp_path / "run")
        async with engines(launcher, nesting, count=1) as policy:
            (engine,) = policy.fleet.all
            _, folder = nesting.left()
            assert isinstance(folder, Path)
            assert len(str(folder.parent)) < 48, "the path of a socket may have 107 bytes"
            os.kill(engine.worker.process.pid, signal.SIGKILL)
            await policy.forget()
            assert nesting.gone(), "killed by somebody"
            await policy.load({}, 8)
            assert len(nesting.left()) == 2
            launcher.kill(engine.worker)
            assert nesting.gone(), "killed by its launcher"
            engine.worker = None
            await policy.load({}, 9)
            assert len(nesting.left()) == 2
            shutil.rmtree(tmp_path / "run")  # as of a run that is refused
        assert nesting.gone(), "closed"
        assert not folder.parents[1].exists()
        assert not (tmp_path / "run" / "cluster").exists()

    asyncio.run(run())


def test_a_folder_that_was_not_made_for_engines_is_not_touched(tmp_path: Path) -> None:
    kept = tmp_path / "cluster" / "weights-1" / "thesis.txt"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises(ConfigError, match=r"cluster is in the way: .* Move it"):
        LocalLauncher(tmp_path)
    assert kept.exists()
    (tmp_path / "cluster" / "temporary-folder").write_text(str(kept.parent), encoding="utf-8")
    LocalLauncher(tmp_path)
    assert not (tmp_path / "cluster").exists()


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
    assert all(one.bytes_I.ctypes.data == weights[name].data_ptr() for name, one in numbers.items())  # type: ignore[union-attr]
