"""Games of TextArena for several players: PettingZoo's own checks, and forks."""

import copy
import re
import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pettingzoo.test import api_test, seed_test

import arpo_envs
from arpo_envs import ConfigError, ForkLevel, NotForkable, SnapshotMismatch
from arpo_envs.hubs import textarena_players

ABOUT_ARRAYS = re.compile("Observation is not a NumPy array|(Observation|Action) space for each agent probably should be")


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    """It is here; imported by who runs these tests, since all processes collect them."""
    pytest.importorskip("textarena")


@pytest.mark.parametrize("game", ["Nim-v0", "KuhnPoker-v0"])
def test_pettingzoo_accepts_it(game: str) -> None:
    """Kuhn poker keeps its shuffled deck when it is reset, so that a new game is made for each episode."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=ABOUT_ARRAYS.pattern)
        api_test(textarena_players.env(game), num_cycles=40)
    seed_test(lambda: textarena_players.env(game), num_cycles=20)


def begun(game: str = "Nim-v0", **options: Any) -> Any:
    env = textarena_players.env(game, **options)
    env.reset(seed=1)
    return env


def seen(env: Any) -> Any:
    told = {agent: env.observe(agent) for agent in env.agents}
    return copy.deepcopy((env.agent_selection, told, env.rewards, env.terminations, env.infos))


def test_a_game_is_played_to_its_end() -> None:
    env = begun()
    assert arpo_envs.fork_level(env) is ForkLevel.EXACT
    for agent, move in (("player_0", "[0 3]"), ("player_1", "[1 4]"), ("player_0", "[2 5]")):
        assert env.agent_selection == agent
        assert "Current Pile" in env.observe(agent)
        env.step(move)
    assert env.rewards == {"player_0": 1.0, "player_1": -1.0}
    assert all("took the last object" in env.observe(agent) for agent in env.agents)
    for _ in range(2):
        env.step(None)
    assert env.agents == []


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=8)
@given(st.lists(st.sampled_from(["[check]", "[bet]", "[call]", "[fold]", "hm"]), min_size=2, max_size=8), st.data())
def test_a_clone_goes_on_as_its_original_and_disturbs_nothing(moves: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(moves) - 1))
    whole, env = begun("KuhnPoker-v0"), begun("KuhnPoker-v0")
    trace = []
    for move in moves:
        trace.append(seen(whole))
        whole.step(None if whole.terminations[whole.agent_selection] else move)
        if not whole.agents:
            break
    for number, before in enumerate(trace):
        assert seen(env) == before
        if number == cut:
            twin = arpo_envs.clone(env)
            assert seen(twin) == before
            twin.step(None if twin.terminations[twin.agent_selection] else "[fold]")
        env.step(None if env.terminations[env.agent_selection] else moves[number])


def test_it_is_restored_and_foreign_snapshots_are_refused() -> None:
    env, other = begun(), begun(piles=[1, 2])
    before = seen(env)
    with arpo_envs.snapshot(env) as parked:
        env.step("[0 3]")
        arpo_envs.restore(env, parked)
        assert seen(env) == before
        with pytest.raises(SnapshotMismatch):
            arpo_envs.restore(other, parked)


def test_a_game_that_cannot_be_copied_is_played_but_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textarena_players, "level_of", lambda kind, options: ForkLevel.REPLAY)
    env = begun()
    for refused in (arpo_envs.clone, arpo_envs.snapshot):
        with pytest.raises(NotForkable):
            refused(env)
    env.step("[0 3]")
    assert env.agent_selection == "player_1"


def test_the_wrong_number_of_players_is_told() -> None:
    with pytest.raises(ConfigError, match=r"Nim-v0 is not a game of 3 player"):
        textarena_players.env("Nim-v0", players=3)
