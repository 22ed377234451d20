"""An adapter that makes games of TextWorld forkable, and adapters that only seem to."""

import copy
import sys
import types
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import pytest

from arpo_envs import ForkLevel, TextSpace

# It plays games for the Z-machine, which these are not; TextWorld imports it all the same, and it would have to be compiled.
jericho: Any = types.ModuleType("jericho")
jericho.UnsupportedGameWarning = jericho.TruncatedInputActionWarning = UserWarning
sys.modules.setdefault("jericho", jericho)

# Found, but imported by those tests only that play: it takes a while.
needs_textworld = pytest.mark.skipif(
    find_spec("textworld") is None, reason="TextWorld is not installed: 1.7.0 has a wheel for Linux on x86-64 only"
)


def generated(path: Path) -> None:
    """Writes a game of one room: a television that is held belongs on a plate."""
    from textworld.generator import GameOptions, make_game

    options = GameOptions()
    options.seeds, options.nb_rooms, options.nb_objects, options.quest_length = 7, 1, 2, 1
    make_game(options).save(str(path))


def lightened(game: Any) -> Any:
    """Returns a game without what no step reads, and each copy would copy twice: nine tenths of the time."""
    for name in ("game", "_game_progression"):
        del game.state[name]
    return game


@cache
def begun(path: str) -> Any:
    """Returns a game that has just begun, of which episodes are copies: loading takes longer than an episode."""
    from textworld import EnvInfos
    from textworld.envs.tw import TextWorldEnv

    game = TextWorldEnv(EnvInfos(facts=True))
    game.load(path)
    game.reset()
    return lightened(game)


class TextGame(gym.Env[str, int]):
    """A game whose observations are the facts that hold; an action is the number of a command that is possible."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    fork_level = ForkLevel.EXACT

    def __init__(self, path: str) -> None:
        self.observation_space, self.action_space = TextSpace(), gym.spaces.Discrete(20)
        self.path, self.game = path, begun(path).copy()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.game = begun(self.path).copy()
        return self.last()

    def step(self, action: int) -> tuple[str, float, bool, bool, dict[str, Any]]:
        possible = self.game.state["admissible_commands"]
        _, score, done = self.game.step(possible[action % len(possible)])
        lightened(self.game)
        observation, info = self.last()
        return observation, float(score), bool(done), False, info

    def last(self) -> tuple[str, dict[str, Any]]:
        facts = "\n".join(sorted(map(str, self.game.state["facts"])))
        return facts, {"possible": tuple(self.game.state["admissible_commands"])}

    def copied_game(self) -> Any:
        return self.game.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> "TextGame":
        memo[id(self.game)] = self.copied_game()
        twin = memo[id(self)] = object.__new__(type(self))
        vars(twin).update(copy.deepcopy(vars(self), memo))
        return twin


class OneGame(TextGame):
    """Its copies play the same game."""

    def copied_game(self) -> Any:
        return self.game


class BegunAgain(TextGame):
    """Its copies play the game from its beginning."""

    def copied_game(self) -> Any:
        return begun(self.path).copy()
