"""One player's side of a game of TextArena; the others are functions.

`gym.make("arpo_envs.hubs.textarena_seat:TextArena/Seat-v0", game="Nim-v0", other="package.module:function")`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium as gym

from ..errors import ConfigError, unknown_name
from ..forking import ForkLevel
from ..multi_agent import SingleAgent
from ..partners import Partner
from .replayed import replayed


def make(
    game: str, *, other: str | Partner, player: int = 0, players: int = 2, fork: str = "auto", **options: Any
) -> "gym.Env[Any, Any]":
    """Returns one player's side of a game, in which the others are functions.

    Args:
        game: its id in TextArena.
        other: who plays the other sides: "package.module:object", or a function from a `Turn` to a move; each has a copy.
        player: the number of the one that acts.
        players: how many play.
        fork: "auto" copies the game if that is right, and otherwise replays the moves; "replay" replays them all the same.
        options: arguments of the game.

    Raises:
        ConfigError: TextArena is not installed, has no such game, it is for another number of players, there is no such player,
            or `other` is not a function.
        NotForkable: the game does not repeat.
    """
    if fork not in ("auto", "replay"):
        raise unknown_name("way to fork", fork, ["auto", "replay"])
    if not 0 <= player < players:
        raise ConfigError(f"player must be between 0 and {players - 1}, got {player}.")
    recipe = partial(_side, game, player, players, other, options)
    side = recipe()
    return side if fork == "auto" and side.fork_level is ForkLevel.EXACT else replayed(recipe)


def _side(game: str, player: int, players: int, other: str | Partner, options: Mapping[str, Any]) -> SingleAgent:
    from .textarena_players import env  # PettingZoo takes a while to import

    acts = f"player_{player}"
    return SingleAgent(
        env(game, players=players, **options),
        acts,
        {name: other for number in range(players) if (name := f"player_{number}") != acts},
    )


gym.register("TextArena/Seat-v0", entry_point="arpo_envs.hubs.textarena_seat:make")
