"""One player's side of a game of TextArena: it forks, copied or replayed, with whoever plays the other side."""

import re
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from arpo_envs import ConfigError, ForkLevel, Turn, clone
from arpo_envs.hubs import textarena_players
from arpo_envs.multi_agent import single_agent
from arpo_envs.testing import Law, check_forkable_env

pytestmark = pytest.mark.skipif(find_spec("textarena") is None, reason="TextArena is not installed")

MOVES = ["[1 4]", "hm", "[0 1]", "[2 1]", "[2 1]"]


class Taker:
    """Takes a number of objects that it draws from the first pile that has any."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def reseed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, turn: Turn) -> str:
        assert turn.dialect is None
        assert "square brackets" in turn.instructions
        piles = re.findall(r"pile (\d+): (\d+)", turn.observation)[-3:]
        pile, number = next((pile, int(number)) for pile, number in piles if int(number))
        return f"[{pile} {self.rng.integers(1, number + 1)}]"


def made(**options: Any) -> gym.Env[Any, Any]:
    env: gym.Env[Any, Any] = gym.make(
        "arpo_envs.hubs.textarena_seat:TextArena/Seat-v0",
        disable_env_checker=True,
        **{"game": "Nim-v0", "other": Taker(), **options},
    )
    return env


@pytest.mark.parametrize("fork", ["auto", pytest.param("replay", marks=pytest.mark.slow)])
def test_a_side_keeps_all_laws(fork: str) -> None:
    report = check_forkable_env(lambda: made(fork=fork), actions=[MOVES], seeds=(0,))
    assert set(report.skipped) == {Law.TIMEOUT, Law.SECRETS}


def test_both_sides_are_played_and_paid() -> None:
    first = single_agent(textarena_players.env("Nim-v0"), "player_0", player_1=lambda turn: "[1 4]")
    assert first.agent == "player_0"
    first.reset(seed=0)
    seen, reward, terminated, _, info = first.step("[0 3]")
    assert "Player 1 removes 4 from pile 1." in seen
    assert (reward, terminated, info["tool"]) == (0.0, False, "move")
    _, reward, terminated, _, info = first.step("[2 5]")
    assert (reward, terminated, info["success"]) == (1.0, True, 1.0)
    second = made(player=1, other=lambda turn: "[0 3]" if turn.begins else "[2 5]")
    assert "removes 3 from pile 0" in second.reset(seed=0)[0]
    _, reward, terminated, _, info = second.step("[1 4]")
    assert (reward, terminated, info["success"]) == (-1.0, True, 0.0)


def test_replayed_moves_are_counted_apart() -> None:
    env = made(fork="replay")
    assert env.unwrapped.fork_level is ForkLevel.REPLAY
    env.reset(seed=3)
    env.step("[1 1]")
    twin = clone(env)
    assert twin.step("[1 1]") == env.step("[1 1]")
    counts = [(one.unwrapped.executed_calls, one.unwrapped.replayed_calls) for one in (env, twin)]
    assert counts == [(2, 0), (1, 1)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"player": 2}, "player must be between 0 and 1, got 2"),
        ({"other": "extractve"}, "Did you mean 'extractive'"),
        ({"fork": "copy"}, "Unknown way to fork"),
        ({"players": 3}, "not a game of 3 player"),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(**options)


def test_somebody_has_to_play_the_other_side() -> None:
    with pytest.raises(ConfigError, match="give player_1="):
        single_agent(textarena_players.env("Nim-v0"), "player_0")
    with pytest.raises(ConfigError, match="Unknown agent 'player'"):
        single_agent(textarena_players.env("Nim-v0"), "player")
