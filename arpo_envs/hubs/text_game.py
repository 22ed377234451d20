"""What the text games of other libraries have in common: a message is a move, and what they draw is theirs alone."""

import difflib
from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np

from ..errors import ConfigError
from ..forking import reseeded
from ..spaces import TextSpace
from .own_random import OwnRandom
from .tried import Tried


class TextGame(Tried):
    """A game for one player that is read and written as text.

    `info` names the tool "move" after each action, so that forks are considered and calls are counted as after a tool's
    result; at the end it says whether the game was won.

    Args:
        instructions: how to write an action, for the prompt.
        arguments: what it was made with; a snapshot fits only games that were made alike.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]  # Gymnasium declares it on instances

    def __init__(self, instructions: str, arguments: Mapping[str, Any]) -> None:
        self.instructions, self._arguments = instructions, repr(sorted(arguments.items()))
        self.observation_space, self.action_space = TextSpace(), TextSpace()
        self.random = OwnRandom()
        self.turn = 0

    @abstractmethod
    def begin(self, seed: int) -> str:
        """Starts a game and returns what the player reads first."""

    @abstractmethod
    def move(self, action: str) -> tuple[str, float, bool, bool, float]:
        """Returns what the player reads next, the reward, whether the game ended and was cut off, and success in [0, 1]."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Starts a game; `seed` as in Gymnasium.

        Raises:
            ConfigError: there are options; no game has any.
        """
        if options:
            raise ConfigError(
                f"Unknown reset options {sorted(options)}: a game has none, it is chosen by the arguments of make."
            )
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**31))
        self.random.reseed(drawn)
        self.turn = 0
        with self.random.lent():
            text = self.begin(drawn)
        return _valid(text), {"turn": 0, "tool": "", "status": "reset"}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Makes one move.

        Raises:
            TypeError: the action is not a string.
        """
        if not isinstance(action, str):
            raise TypeError(f"An action is a string, got {type(action).__name__}.")
        with self.random.lent():
            text, reward, terminated, truncated, success = self.move(action)
        self.turn += 1
        info: dict[str, Any] = {"turn": self.turn, "tool": "move", "status": "ok"}
        if terminated or truncated:
            info["success"] = success
        return f"\n{_valid(text)}\n", float(reward), bool(terminated), bool(truncated), info

    def identity(self) -> str:
        """Returns what a snapshot's game and this one must agree on."""
        return self._arguments

    def reseed(self, seed: int) -> None:
        """Makes what the game draws from here on a function of `seed`."""
        self.np_random = reseeded(self.np_random, [seed])
        self.random.reseed(int(np.random.SeedSequence([seed]).generate_state(1)[0]))


def _valid(text: str) -> str:
    """Returns a text without lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")


def unknown_game(hub: str, game: str, known: Collection[str]) -> ConfigError:
    """Returns the error for a game that a library does not have: the closest ones, for it may have hundreds.

    >>> unknown_game("TextArena", "Guess", ["GuessWho-v0", "Chess-v0", "Nim-v0"])
    ConfigError("TextArena has no 'Guess', but 3 others. The closest: GuessWho-v0, Chess-v0.")
    """
    close = difflib.get_close_matches(game, known, n=3, cutoff=0.3)
    closest = f" The closest: {', '.join(close)}." if close else ""
    return ConfigError(f"{hub} has no {game!r}, but {len(known)} others.{closest}")
