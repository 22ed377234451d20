"""Trees collected while the learner updates are those of the weights of before, whatever happens in between."""

import asyncio
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cluster_toys import HASTY, PLAN, InProcess, engines, starts
from kept_toys import Shelf
from model_toys import byte_tokenizer, tiny_model
from rollout_toys import CountEnv
from test_trainer import Lenient, trainer

from algorithms import make
from algorithms.cli.config import TrainConfig
from algorithms.cli.kept import Kept
from algorithms.cli.placement import Placement
from algorithms.cli.signals import BrokenOff, Signals
from algorithms.cluster import Ahead, collect_elsewhere
from algorithms.cluster.published import StoredWeights, write_published
from algorithms.learner import TorchLearner, copied
from algorithms.policies.local import LocalPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout import Collected, Failures, Start
from algorithms.trainer import StepResult, Trainer
from algorithms.tree import RolloutTree
from arpo_envs import ConfigError

STEPS = 3


# --- with a model ------------------------------------------------------------------------------------------------


def invariant(algorithm: Any = None, ahead: bool = True) -> Trainer:
    """Returns a trainer whose engine computes each sequence as if it were alone."""
    some = trainer(1, algorithm or make("grpo", rollouts=3))
    policy = LocalPolicy(tiny_model(vocabulary=265), byte_tokenizer(), slots=8, batch_invariant=True)
    some = replace(some, limits=replace(some.limits, action_tokens=5, answer_reserve=4))
    return replace(some, policy=policy, make_env=Lenient, ahead=Ahead(STEPS) if ahead else None)


@dataclass
class Saved:
    """What a checkpoint holds."""

    model: Mapping[str, torch.Tensor]
    learner: Path
    memory: Any
    previous: StoredWeights | None


def train(some: Trainer, folder: Path, first: int = 0) -> tuple[list[StepResult], list[Saved]]:
    """Takes the steps from one on; returns their results, and what could be saved before each of them and at the end."""
    learner: Any = some.learner

    def saved(step: int) -> Saved:
        learner.save(folder / str(step))
        kept = some.ahead.weights.get(step - 1) if some.ahead is not None else None
        if kept is not None:
            write_published(kept, folder / f"previous-{step}")
        previous = StoredWeights(folder / f"previous-{step}") if kept is not None else None
        return Saved(copied(learner.weights()), folder / str(step), some.adaptation.memory, previous)

    async def run() -> tuple[list[StepResult], list[Saved]]:
        await some.load(first)
        results, kept = [], [saved(first)]
        for step in range(first, STEPS):
            results.append(await some.step(step))
            kept.append(saved(step + 1))
        await some.close()
        return results, kept

    return asyncio.run(run())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[StepResult], list[Saved]]:
    """Returns a run that nothing disturbed; its forks follow what earlier trees showed."""
    return train(invariant(adapting()), tmp_path_factory.mktemp("whole"))


def adapting() -> Any:
    return make("arpo", rollouts=3, roots=2, probe=2, alpha="auto")


def test_the_trees_of_a_step_are_those_of_the_weights_of_the_step_before(whole: tuple[list[StepResult], list[Saved]]) -> None:
    results, saved = whole
    assert [result.metrics["staleness"] for result in results] == [0.0, 1.0, 1.0]
    assert len({tree.to_json() for result in results for tree in result.trees}) == 2 * STEPS
    for step, result in enumerate(results):
        version = max(0, step - 1)
        again = invariant(adapting(), ahead=False)
        again.adaptation.memory = saved[step].memory

        async def collected(again: Trainer = again, step: int = step, version: int = version) -> list[RolloutTree]:
            await again.policy.load(saved[version].model, version)
            grown = await again._collected(step, again.adaptation)
            await again.policy.close()
            return grown.grown

        assert asyncio.run(collected()) == result.trees, step
    assert not all(torch.equal(saved[0].model[name], saved[1].model[name]) for name in saved[0].model)


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_resumed_run_collects_again_what_was_lost(
    step: int, whole: tuple[list[StepResult], list[Saved]], tmp_path: Path
) -> None:
    results, saved = whole
    some = invariant(adapting())
    learner: Any = some.learner
    learner.model.load_state_dict(dict(saved[step].model))
    learner.load(saved[step].learner)
    some.adaptation.memory = saved[step].memory
    assert some.ahead is not None
    previous = saved[step].previous
    assert previous is not None
    some.ahead.weights[step - 1] = previous
    rest, ends = train(some, tmp_path, step)
    assert [result.trees for result in rest] == [result.trees for result in results[step:]]
    assert all(torch.equal(ends[-1].model[name], saved[-1].model[name]) for name in saved[-1].model)
    assert ends[-1].memory == saved[-1].memory


@pytest.mark.slow
def test_without_the_weights_of_before_a_resumed_run_would_differ(
    whole: tuple[list[StepResult], list[Saved]], tmp_path: Path
) -> None:
    """What the test above would not notice if trees did not depend on the weights."""
    results, saved = whole
    some = invariant(adapting())
    learner: Any = some.learner
    learner.model.load_state_dict(dict(saved[1].model))
    learner.load(saved[1].learner)
    some.adaptation.memory = saved[1].memory
    rest, _ = train(some, tmp_path, 1)
    assert rest[0].trees != results[1].trees
    assert rest[0].metrics["staleness"] == 0.0


@pytest.mark.parametrize("tied", [True, False])
def test_copies_of_weights_are_whole_and_stay_as_they_were(tied: bool) -> None:
    learner = TorchLearner(tiny_model(tie_word_embeddings=tied))
    copy, before = copied(learner.weights()), {name: weight.clone() for name, weight in learner.weights().items()}
    with torch.no_grad():
        for parameter in learner.model.parameters():
            parameter.add_(1.0)
    assert list(copy) == list(before)
    assert all(torch.equal(copy[name], before[name]) for name in before)
    assert (copy["lm_head.weight"] is copy["model.embed_tokens.weight"]) == tied


# --- with engines that are lost ----------------------------------------------------------------------------------


class Counting:
    """A learner that learns nothing."""

    def score(self, trees: Any, needs: Any) -> Any:
        return None

    def update(self, *given: Any) -> Mapping[str, float]:
        return {"loss": 0.0}

    def weights(self) -> Mapping[str, Any]:
        return {}

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


def counting(policy: Any, learner: Counting) -> Trainer:
    return Trainer(
        make_env=CountEnv,
        starts=lambda step, refill: [Start(10 * step + i) for i in range(4)],
        policy=policy,
        renderer=ScriptedRenderer(),
        algorithm=make("grpo", rollouts=2),
        learner=learner,
        seed=3,
        failures=Failures(lambda what, error: None),
        collect=collect_elsewhere,
        ahead=Ahead(STEPS),
    )


def played(fates: list[str]) -> tuple[list[RolloutTree], InProcess]:
    launcher = InProcess(iter(fates))

    async def run() -> list[RolloutTree]:
        async with engines(launcher, patience=replace(HASTY, pause=0.0)) as policy:
            some = counting(policy, Counting())
            await some.load(0)
            results = [await some.step(step) for step in range(STEPS)]
            await some.close()
            return [tree for result in results for tree in result.trees]

    return asyncio.run(run()), launcher


def test_engines_that_are_lost_change_nothing() -> None:
    usual, undisturbed = played([])
    found, launcher = played(["", "before", "", "after", *[""] * 5, "before", "", "after"])
    assert (undisturbed.made, launcher.made) == (2, 6)
    assert found == usual
    written = [{node.policy_version for node in tree.nodes if any(node.sampled)} for tree in found]
    assert written == [{0}] * 8 + [{1}] * 4, "step 0 and step 1 are of version 0, step 2 is of version 1"
    zero, one = (*range(4), *range(10, 14)), range(20, 24)
    assert sorted(set(launcher.seen)) == [*((seed, 0) for seed in zero), *((seed, 1) for seed in one)]


def test_prompts_are_not_asked_again_with_newer_weights() -> None:
    """New weights that come too early: what is left of the batch fails, and no tree mixes them in."""
    launcher = InProcess(iter(["", "before"]))

    async def run() -> Collected:
        async with engines(launcher, count=1, patience=replace(HASTY, pause=0.0)) as policy:
            usual = launcher.call

            async def early(worker: Any, method: str, *arguments: Any) -> Any:
                answer = await usual(worker, method, *arguments)
                if method == "grow" and policy.version == 7:
                    policy.version = policy.fleet.version = 8  # as if `load` had not waited; lost engines are made with it
                return answer

            launcher.call = early  # type: ignore[method-assign]
            told = {"seed": 3, "step": 5, "failures": Failures(lambda what, error: None)}
            return await collect_elsewhere(CountEnv, starts(6), policy, ScriptedRenderer(), PLAN, **told)

    found = asyncio.run(run())
    assert {version for _, version in launcher.seen} == {7}
    failed = [tree for tree in found.trees if (tree.nodes[1].fault or "").startswith("Lost")]
    assert 0 < len(failed) < 6
    assert all("want weights of version 7" in (tree.nodes[1].fault or "") for tree in failed)


# --- at the same time --------------------------------------------------------------------------------------------


def test_the_update_and_the_next_collection_are_under_way_at_the_same_time() -> None:
    collecting, updating = threading.Event(), threading.Event()

    def update() -> str:
        updating.set()
        assert collecting.wait(30.0), "it would wait for ever if nothing was collected meanwhile"
        return "updated"

    async def run() -> tuple[str, str | None, str | None]:
        ahead = Ahead[str](steps=2)

        async def collect() -> str:
            assert await asyncio.to_thread(updating.wait, 30.0)
            assert ahead.is_updating
            collecting.set()
            return "trees"

        found = await ahead.alongside(update, 1, collect)
        await ahead.arrived()
        assert not ahead.is_updating
        return found, await ahead.take(1), await ahead.take(1)

    assert asyncio.run(run()) == ("updated", "trees", None)


def test_the_last_step_collects_nothing_ahead_and_an_error_is_raised_where_trees_are_wanted() -> None:
    asked: list[int] = []

    async def run() -> None:
        ahead = Ahead[str](steps=2)

        async def collect() -> str:
            asked.append(1)
            raise ConfigError("No such thing.")

        await ahead.alongside(lambda: None, 2, collect)
        assert await ahead.take(2) is None
        await ahead.alongside(lambda: None, 1, collect)
        await ahead.arrived()
        with pytest.raises(ConfigError, match="No such thing"):
            await ahead.take(1)
        with pytest.raises(ZeroDivisionError):
            await ahead.alongside(lambda: 1 // 0, 1, lambda: asyncio.sleep(60.0, "never"))
        assert not ahead.is_updating
        await ahead.close()

    asyncio.run(run())
    assert asked == [1]


# --- signals -----------------------------------------------------------------------------------------------------


@dataclass
class Placed:
    """A learner whose update takes until it is told to go on."""

    place: int = 0
    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def update(self) -> int:
        self.begun.set()
        assert self.go_on.wait(30.0)
        self.place += 1
        return self.place


def test_an_update_in_another_thread_is_finished_and_what_comes_ahead_of_the_next_step_is_broken_off() -> None:
    learner, saved = Placed(), list[int]()

    async def run() -> None:
        signals, ahead = Signals(), Ahead[str](steps=9)
        kept = Kept(Shelf(saved), Path("run"), None, lambda: ahead.is_updating)

        async def stop() -> None:
            await asyncio.to_thread(learner.begun.wait, 30.0)
            signals._break()
            await asyncio.sleep(0.05)
            learner.go_on.set()

        with signals.during_steps(), kept.whatever_happens():
            stopping = asyncio.ensure_future(stop())
            with kept.during(0, learner):  # type: ignore[arg-type]
                learn = ahead.alongside(learner.update, 1, lambda: asyncio.sleep(60.0, "never"))
                assert await signals.breaking_off(learn, lambda: ahead.is_updating) == 1
            await stopping
            await signals.breaking_off(ahead.arrived())
            pytest.fail("it should not wait for what is collected ahead")
        await signals.tidy()
        await ahead.close()

    asyncio.run(run())
    assert saved == [1]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_the_first_ctrl_c_finishes_a_step_and_does_not_wait_for_the_next_one(when: str) -> None:
    async def run() -> list[str]:
        signals, done = Signals(), list[str]()

        async def step() -> str:
            if when == "before":
                os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.01)
            return "a step"

        async def collected_ahead() -> None:
            if when == "meanwhile":
                os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(20.0)

        with signals.during_steps():
            done.append(await signals.breaking_off(step()))
            with pytest.raises(BrokenOff):
                await signals.unless_asked(collected_ahead())
        await signals.tidy()
        assert (signals.asked, signals.is_urgent) == (signal.SIGINT, False)
        return done

    assert asyncio.run(run()) == ["a step"]


def test_weights_in_the_middle_of_an_update_are_never_saved() -> None:
    saved = list[int]()
    kept = Kept(Shelf(saved), Path("run"), None, lambda: True)
    with kept.whatever_happens(), kept.during(3, Placed()):  # type: ignore[arg-type]
        raise BrokenOff
    assert saved == []


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"ahead": 2, "cluster": "local"}, "ahead must be 0 or 1, got 2"),
        ({"ahead": 1}, "--ahead 1 needs an engine outside of the process that trains"),
        ({"ahead": 1, "cluster": "local", "budget_calls": 9}, "--ahead 1 rules out --budget-calls"),
        ({"ahead": 1, "cluster": "local", "importance": "none"}, "--ahead 1 needs --importance token or sequence"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        TrainConfig.of(options)


def test_recordings_are_refused_in_front_of_a_server_too() -> None:
    with pytest.raises(ConfigError, match="--ahead 1 needs --tools live, not record"):
        TrainConfig(policy="http://127.0.0.1:9", placement=Placement(ahead=1), tools="record")
    assert TrainConfig(policy="http://127.0.0.1:9", placement=Placement(ahead=1)).placement.ahead == 1


def test_a_value_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="ppo cannot learn from trees collected ahead"):
        replace(counting(None, Counting()), algorithm=make("ppo", rollouts=2))
