"""Games of TextArena here: `gym.make("arpo_envs.hubs.textarena:TextArena/Game-v0", game="GuessTheNumber-v0")`."""

import re
from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from ..errors import ConfigError
from .text_game import TextGame, unknown_game
from .tried import make_game

_INSTRUCTIONS = "You are playing a game. Each of your messages is one move; write it in square brackets."


def make(game: str, *, fork: str = "auto", **options: Any) -> "gym.Env[Any, Any]":
    """Returns a game of TextArena for one player.

    Args:
        game: its id, such as "GuessTheNumber-v0"; "-train" and "-raw" versions are the same game here, because each message of
            the game is shown once, when it is new.
        fork: "auto" finds out how it forks; "replay" replays even what could be copied.
        options: arguments of the game.

    Raises:
        ConfigError: TextArena is not installed, has no such game, cannot make it, or it is for several players; these are in
            `textarena_players`.
        NotForkable: it does not repeat.
    """
    return make_game(TextArena, fork, {"game": game, **options})


class TextArena(TextGame):
    """A game of TextArena; of several players, each action is of the one whose turn it is, and the first one is paid.

    Args:
        game: its id.
        players: how many play.
        options: its arguments.

    Raises:
        ConfigError: TextArena is not installed, has no such game, or cannot make it.
    """

    def __init__(self, game: str, *, players: int = 1, **options: Any) -> None:
        super().__init__(_INSTRUCTIONS, {"game": game, "players": players, **options})
        self.name, self.players, self._options, self._prompt = game, players, options, ""
        self.game, self._brackets = self._made()

    def _made(self) -> tuple[Any, bool]:
        """Returns a new game without its wrappers, and whether these would put brackets around a move that has none."""
        try:
            import textarena
            from textarena.envs.registration import ENV_REGISTRY
        except ImportError as error:
            raise ConfigError(
                f"TextArena cannot be imported: {error}. `pip install 'arpo-envs[textarena]'`, and then `pip install --no-deps "
                "textarena`."
            ) from error
        if self.name not in ENV_REGISTRY:
            raise unknown_game("TextArena", self.name, ENV_REGISTRY)
        try:
            with self.random.lent():
                made = textarena.make(self.name, **self._options)
        except Exception as error:  # it may fail in any way, such as without its data
            raise ConfigError(f"TextArena cannot make {self.name}: {type(error).__name__}: {error}") from error
        brackets = False
        while isinstance(made, textarena.Wrapper):  # they would say everything again each time, and do not pickle
            brackets |= isinstance(made, textarena.wrappers.ActionFormattingWrapper)
            made = made.env
        return made, brackets

    def begin(self, seed: int) -> str:
        """Starts a game and returns its rules.

        Raises:
            ConfigError: the game is for another number of players.
        """
        self.game, _ = self._made()  # some games keep a shuffled deck when they are reset
        try:
            self.game.reset(num_players=self.players, seed=seed)
        except AssertionError as error:
            raise ConfigError(
                f"{self.name} is not a game of {self.players} player(s): {error}. Games for several are in "
                f"arpo_envs.hubs.textarena_players: env({self.name!r}, players=2)."
            ) from error
        self._prompt = self.heard(self.turn_of)
        return self._prompt

    def move(self, action: str) -> tuple[str, float, bool, bool, float]:
        """Makes one move; the game pays at its end, and 1 is a success."""
        bare = self._brackets and "[" not in action and "]" not in action
        over, _ = self.game.step(f"[{action}]" if bare else action)
        if not over:
            return self.heard(self.turn_of), 0.0, False, False, 0.0
        reward = self.rewards[0]
        return self.ending(0), reward, True, False, float(reward >= 1)

    def tries(self) -> Sequence[str]:
        """Returns the moves that the rules show, several times, and one that is wrong."""
        shown = re.findall(r"\[[^\[\]\n]{1,20}\]", self._prompt) or ["[1]"]
        return [*(shown * 4)[:5], "hm"]

    @property
    def turn_of(self) -> int:
        """Whose turn it is."""
        return int(self.game.state.current_player_id)

    @property
    def rewards(self) -> list[float]:
        """What each player is paid; nothing before the end."""
        paid = self.game.state.rewards or {}
        return [float(paid.get(player, 0.0)) for player in range(self.players)]

    def heard(self, player: int) -> str:
        """Returns what a player has been told since the last call, without its own words."""
        if player == self.turn_of:
            messages = self.game.get_observation()[1]
        else:
            messages, self.game.state.observations[player] = self.game.state.observations[player], []
        return "\n".join(text for sender, text, _ in messages if sender != player)

    def ending(self, player: int) -> str:
        """Returns what a player has still been told, and why the game is over."""
        reason = str(self.game.state.game_info[player].get("reason") or "")
        return "\n".join(filter(None, (self.heard(player), reason)))


gym.register("TextArena/Game-v0", entry_point="arpo_envs.hubs.textarena:make")
