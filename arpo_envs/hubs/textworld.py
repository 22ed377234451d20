"""Games of TextWorld here: `gym.make("arpo_envs.hubs.textworld:TextWorld/Game-v0", rooms=2)`; a fork is its own copy."""

import copy
import importlib.util
import sys
import types
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import gymnasium as gym

from ..errors import ConfigError
from .text_game import TextGame
from .tried import make_game

_INSTRUCTIONS = "You are playing a text adventure. Each of your messages is one command, and nothing else."


def make(
    *, path: str | None = None, rooms: int = 2, objects: int = 4, quest_length: int = 2, games: int = 16, fork: str = "auto"
) -> "gym.Env[Any, Any]":
    """Returns an environment that plays games of TextWorld, made for it or read from a file.

    Args:
        path: of a game saved as JSON; without it, games are generated, and the other arguments say how.
        rooms: of a generated game.
        objects: in it.
        quest_length: commands that its quest takes.
        games: how many are generated; the seed of a reset chooses one, and each is generated when it is first played.
        fork: "auto" finds out how it forks; "replay" replays even what could be copied.

    Raises:
        ConfigError: TextWorld is not installed, there is no such file, or no game has these arguments.
        NotForkable: it does not repeat.
    """
    options = {"path": path, "rooms": rooms, "objects": objects, "quest_length": quest_length, "games": games}
    return make_game(TextWorld, fork, options)


class TextWorld(TextGame):
    """Games whose observations are the goal, all facts that hold, and the commands that are possible; see `make`.

    The reward of a step is what it adds to the game's score.
    """

    def __init__(self, path: str | None, rooms: int, objects: int, quest_length: int, games: int) -> None:
        if min(rooms, objects, quest_length, games) < 1:
            raise ConfigError(f"A game needs at least one of each, got {rooms=}, {objects=}, {quest_length=}, {games=}.")
        self._games, self._shape = games, (path, rooms, objects, quest_length)
        super().__init__(_INSTRUCTIONS, {"shape": self._shape, "games": games})
        self.game = _begun(self._shape, 0).copy()

    def begin(self, seed: int) -> str:
        """Starts one of the games."""
        self.game = _begun(self._shape, seed % self._games).copy()
        self._score = 0.0
        return "\n".join((str(self.game.state["objective"]), self._seen()))

    def move(self, action: str) -> tuple[str, float, bool, bool, float]:
        """Follows a command; what is not possible changes nothing."""
        possible = action.strip() in self.game.state["admissible_commands"]
        state, score, over = self.game.step(action.strip())
        _lightened(self.game)
        gained, self._score = float(score) - self._score, float(score)
        text = self._seen() if possible else f"That is not possible.\n{self._seen()}"
        return text, gained, bool(over), False, float(state["won"])

    def tries(self) -> Sequence[str]:
        """Returns the first commands that are possible, and one that is not."""
        return [*self.game.state["admissible_commands"][:5], "fly"]

    def _seen(self) -> str:
        state = self.game.state
        facts = sorted(map(str, state["facts"]))
        return "\n".join((*facts, f"You can: {'; '.join(state['admissible_commands'])}."))

    def __deepcopy__(self, memo: dict[int, Any]) -> "TextWorld":
        """Has TextWorld copy its game."""
        memo[id(self.game)] = self.game.copy()
        twin = memo[id(self)] = object.__new__(type(self))
        vars(twin).update(copy.deepcopy(vars(self), memo))
        return twin


@lru_cache(maxsize=256)
def _begun(shape: tuple[str | None, int, int, int], number: int) -> Any:
    """Returns a game that has just begun, of which episodes are copies: making one takes longer than an episode."""
    textworld, path = _library(), shape[0]
    try:
        if path is not None:
            game = textworld.Game.load(path)
        else:
            options = textworld.GameOptions()
            options.seeds, (options.nb_rooms, options.nb_objects, options.quest_length) = number, shape[1:]
            game = textworld.generator.make_game(options)
    except Exception as error:  # a file or a quest may be impossible in any way
        what = path or f"a game of {shape[1]} rooms, {shape[2]} objects and a quest of {shape[3]} commands"
        raise ConfigError(f"TextWorld cannot make {what}: {type(error).__name__}: {error}") from error
    begun = textworld.envs.TextWorldEnv(textworld.EnvInfos(facts=True))
    begun._game, begun._inform7 = game, textworld.generator.inform7.Inform7Game(game)  # as its load() does with a file
    begun.reset()
    return _lightened(begun)


def _lightened(game: Any) -> Any:
    """Returns a game without what no step reads, and each copy would copy twice: nine tenths of the time."""
    for name in ("game", "_game_progression"):
        del game.state[name]
    return game


def _library() -> Any:
    """Returns TextWorld, which imports an interpreter for other games, jericho; none is needed here.

    Raises:
        ConfigError: it is not installed.
    """
    absent = "jericho" not in sys.modules and importlib.util.find_spec("jericho") is None
    if absent:
        placeholder: Any = types.ModuleType("jericho")
        placeholder.UnsupportedGameWarning = placeholder.TruncatedInputActionWarning = UserWarning
        sys.modules["jericho"] = placeholder
    try:
        import textworld.envs
        import textworld.generator
    except ImportError as error:
        raise ConfigError(
            f"TextWorld cannot be imported: {error}. `pip install 'arpo-envs[textworld]'`, and then `pip install --no-deps "
            "textworld`."
        ) from error
    finally:
        if absent:
            del sys.modules["jericho"]
    return textworld


gym.register("TextWorld/Game-v0", entry_point="arpo_envs.hubs.textworld:make")
