"""Environments that say how to try them, so that how they fork is found out once for a class and its arguments."""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gymnasium as gym

from ..errors import ConfigError, NotForkable, unknown_name
from ..forking import ForkLevel
from .forkable import Forkable, forkable
from .replayed import replayed


class Tried(gym.Env[str, str]):
    """An environment of text that says with which actions is found out how it forks."""

    @abstractmethod
    def tries(self) -> Sequence[str]:
        """Returns some actions of the episode that has just begun."""


@dataclass(frozen=True)
class _Recipe:
    """Makes one game again and again; equal ones make equal games.

    Args:
        kind: the class.
        options: its arguments, as JSON.
    """

    kind: type[Tried]
    options: str

    def __call__(self) -> Tried:
        return self.kind(**json.loads(self.options))


def make_game(kind: type[Tried], fork: str, options: Mapping[str, Any]) -> "gym.Env[Any, Any]":
    """Returns a game that can be forked, at a level that is found out once for a class and its arguments.

    Args:
        kind: the class of the game.
        fork: "auto", or "replay", which replays even what could be copied.
        options: the arguments of the class.

    Raises:
        ConfigError: `fork` is neither, or an argument is not a plain value.
        NotForkable: the game does not repeat.
    """
    if fork not in ("auto", "replay"):
        raise unknown_name("way to fork", fork, ["auto", "replay"])
    recipe = _recipe(kind, options)
    return replayed(recipe) if fork == "replay" else _found_out(recipe)()


def level_of(kind: type[Tried], options: Mapping[str, Any]) -> ForkLevel:
    """Returns the level at which a game can be forked, which is found out once for a class and its arguments.

    Raises:
        ConfigError, NotForkable: as `make_game`.
    """
    return _found_out(_recipe(kind, options)).level


def _recipe(kind: type[Tried], options: Mapping[str, Any]) -> _Recipe:
    try:
        return _Recipe(kind, json.dumps(dict(options), sort_keys=True))
    except TypeError as error:
        raise ConfigError(f"Arguments of a game must be numbers, strings, or lists or mappings of them: {error}.") from error


@lru_cache(maxsize=256)
def _found_out(recipe: _Recipe) -> Forkable:
    with recipe() as game:
        game.reset(seed=0)
        moves = list(game.tries())
    try:
        return forkable(recipe, actions=[moves, moves[::-1]])
    except NotForkable as error:
        raise NotForkable(f"With the arguments {recipe.options}, {error}") from error
