"""Environments that are made of others, mixtures and sides of games: they fork and go back as their parts do."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import arpo_envs
from arpo_envs import ForkLevel, Outcome, Score, SnapshotMismatch, Turn
from arpo_envs.envs.mixture import Mixture
from arpo_envs.multi_agent import deep_search_v0, single_agent
from arpo_envs.spaces import TextSpace
from arpo_envs.tasks import Task
from arpo_envs.tools.cache import Recorder, Store, answer_tools
from wrappers import Prompted, TurnLimit

SMALL: dict[str, Any] = {"split": "test", "cities_per_country": 10}
TASK = "city-2886242/country/capital"
READER, NESTED, LIMITED, LOCKED = (f"Composed/{name}-v0" for name in ("Reader", "Nested", "Limited", "Locked"))
SEARCH = "ARPO/Search-v0"


def asks_twice(turn: Turn) -> str:
    """A solver that has the reader read two pages."""
    if turn.begins:
        return "<search>Köln</search>"
    return "<read>country</read>" if "【" in turn.observation else "<read>population</read>"


def reader_side(render_mode: str | None = None) -> gym.Env[str, str]:
    return single_agent(deep_search_v0.env(render_mode=render_mode, **SMALL), "reader", solver=asks_twice)


def nested(render_mode: str | None = None, **common: Any) -> gym.Env[str, str]:
    return Mixture(envs={"ARPO/SearchMini-v0": 1, "ARPO/Browser-v0": 1}, render_mode=render_mode, **common)


def limited(limit: int) -> gym.Env[str, str]:
    """Returns a mixture whose member is registered with a limit on its turns."""
    gym.registry.pop(LIMITED, None)
    wrapper = TurnLimit.wrapper_spec(limit=limit)
    gym.register(LIMITED, entry_point="arpo_envs.envs.search:SearchEnv", additional_wrappers=(wrapper,))
    return Mixture(envs={LIMITED: 1.0}, **SMALL)


for name, make in ((READER, reader_side), (NESTED, nested)):
    if name not in gym.registry:
        gym.register(name, entry_point=make)


def seven(task: Task, outcome: Outcome) -> Score:
    return Score(7.0, 1.0)


def solver_side(**arguments: Any) -> gym.Env[str, str]:
    return single_agent(deep_search_v0.env(**SMALL, **arguments), "solver", reader="extractive")


KINDS: dict[str, Callable[..., Any]] = {
    "mixture": lambda **given: gym.make("ARPO/Mixture-v0", envs={SEARCH: 1}, **SMALL, **given),
    "registered": lambda **given: gym.make("ARPO/DeepSearchSolver-v0", **SMALL, **given),
    "side": solver_side,
    "game": lambda **given: deep_search_v0.env(**SMALL, **given),
}


def test_a_member_of_a_mixture_may_open_sessions_in_the_middle_of_its_episode() -> None:
    env = gym.make("ARPO/Mixture-v0", envs={READER: 1})
    env.reset(seed=1)
    for _ in range(3):
        children = arpo_envs.clone_many(env, [None, 3])
        with arpo_envs.snapshot(env) as parked:
            question = arpo_envs.restore(env, parked)[0]
        for child in children:
            assert not isinstance(child, Exception)
            assert child.step("<answer>A note.</answer>")[0].startswith("Question: population")
            child.close()
        assert question.startswith("Question: ")
        env.step("<answer>A note.</answer>")
    env.close()


@pytest.mark.parametrize("kind", KINDS)
def test_restore_leaves_each_part_as_it_was_made(kind: str) -> None:
    """The snapshot comes from an environment with the usual reward that shows nothing."""
    plain, own = KINDS[kind](), KINDS[kind](render_mode="ansi", reward=seven)
    task = f"{SEARCH}/{TASK}" if kind == "mixture" else TASK
    plain.reset(options={"task": task})
    plain.step("<search>Köln</search>")
    own.reset(seed=1)
    with arpo_envs.snapshot(plain) as parked:
        arpo_envs.restore(own, parked)
    assert "Köln" in own.render()
    returned = own.step("<answer>Lima</answer>")
    paid = own.rewards["solver_0"] if kind == "game" else returned[1]
    assert paid == 7.0
    assert own.unwrapped.render_mode == "ansi"
    plain.close()
    own.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_restored_goes_on_without_its_snapshot(kind: str) -> None:
    env = KINDS[kind](render_mode="ansi")
    env.reset(seed=5)
    with arpo_envs.snapshot(env) as parked:
        env.step("<search>Köln</search>")
        first = arpo_envs.restore(env, parked)
        twin = arpo_envs.clone(env)
        asked = env.render()
        env.step("<search>Köln</search>")
        assert env.render() != asked == twin.render()
        assert arpo_envs.restore(env, parked) == first
        assert env.render() == asked
    env.step("<search>Köln</search>")
    assert env.render() != asked
    env.close()
    twin.close()


def test_a_snapshot_fits_what_a_spec_makes_after_it_was_json() -> None:
    env = Prompted(gym.make("ARPO/SearchMini-v0", split="test"), "search-r1", (("Who?", "<answer>I</answer>"),), 1)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    question, _ = env.reset(seed=1)
    with arpo_envs.snapshot(env) as parked:
        assert arpo_envs.restore(again, parked)[0] == question
    env.close()
    again.close()


def test_a_snapshot_of_a_mixture_does_not_fit_one_whose_member_is_wrapped_in_another_way() -> None:
    made = [limited(3), limited(3), limited(4)]
    for env in made:
        env.reset(seed=1)
    with arpo_envs.snapshot(made[0]) as parked:
        arpo_envs.restore(made[1], parked)
        with pytest.raises(SnapshotMismatch, match="Foreign"):
            arpo_envs.restore(made[2], parked)
    for env in made:
        env.close()


def test_a_mixture_of_mixtures_is_recorded_like_its_members(tmp_path: Path) -> None:
    env = gym.make("ARPO/Mixture-v0", envs={NESTED: 1, SEARCH: 1}, **SMALL)
    with Store(tmp_path / "tools.sqlite") as store:
        answer_tools(env, Recorder(store))
        for seed in range(6):
            env.reset(seed=seed)
            env.step("<search>Köln</search>")
            env.step("<browser.open>{}</browser.open>")
        assert len(store) > 1
        assert store.knows(env.unwrapped.mixed[SEARCH].unwrapped.tools[0].subject)
    env.close()


class Locked(gym.Env[str, str]):
    """Says itself how it is copied: its lock cannot be."""

    fork_level = ForkLevel.EXACT

    def __init__(self, render_mode: str | None = None) -> None:
        self.observation_space = self.action_space = TextSpace()
        self.render_mode = render_mode
        self.lock, self.steps = threading.Lock(), 0

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, lock=threading.Lock())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.last()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        with self.lock:
            self.steps += 1
        return str(self.steps), 0.0, False, False, {}

    def last(self) -> tuple[str, dict[str, Any]]:
        return str(self.steps), {}


if LOCKED not in gym.registry:
    gym.register(LOCKED, entry_point=Locked)


@pytest.mark.parametrize("make", [Locked, lambda: gym.make("ARPO/Mixture-v0", envs={LOCKED: 1})])
def test_restore_copies_a_part_as_its_class_says(make: Callable[[], Any]) -> None:
    env = make()
    env.reset(seed=1)
    env.step("a")
    with arpo_envs.snapshot(env) as parked:
        env.step("b")
        assert arpo_envs.restore(env, parked)[0].endswith("1")
    assert env.step("c")[0] == "2"
    env.close()
