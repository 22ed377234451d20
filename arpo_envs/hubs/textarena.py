"""Games of TextArena here: `gym.make("arpo_envs.hubs.textarena:TextArena/Game-v0", game="GuessTheNumber-v0")`."""

import re
from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from ..errors import ConfigError
from .text_game import TextGame, make_game, unknown_game

_INSTRUCTIONS = "You are playing a game. Each of your messages is one move; write it in square brackets."


def make(game: str, *, fork: str = "auto", **options: Any) -> "gym.Env[Any, Any]":
    """Returns a game of TextArena for one player.

    Args:
        game: its id, such as "GuessTheNumber-v0"; "-train" and "-raw" versions are the same game here, because each message of
            the game is shown once, when it is new.
        fork: "auto" finds out how it forks; "replay" replays even what could be copied.
        options: arguments of the game.

    Raises:
        ConfigError: TextArena is not installed, has no such game, cannot make it, or it is for several players.
        NotForkable: it does not repeat.
    """
    return make_game(TextArena, fork, {"game": game, **options})


class TextArena(TextGame):
    """A game of TextArena for one player.

    Args:
        game: its id.
        options: its arguments.

    Raises:
        ConfigError: TextArena is not installed, has no such game, cannot make it, or it is for several players.
    """

    def __init__(self, game: str, **options: Any) -> None:
        super().__init__(_INSTRUCTIONS)
        try:
            import textarena
            from textarena.envs.registration import ENV_REGISTRY
        except ImportError as error:
            raise ConfigError(
                f"TextArena cannot be imported: {error}. `pip install 'arpo-envs[textarena]'`, and then `pip install --no-deps "
                "textarena`."
            ) from error
        if game not in ENV_REGISTRY:
            raise unknown_game("TextArena", game, ENV_REGISTRY)
        self.name, self._prompt = game, ""
        try:
            with self.random.lent():
                made = textarena.make(game, **options)
        except Exception as error:  # it may fail in any way, such as without its data
            raise ConfigError(f"TextArena cannot make {game}: {type(error).__name__}: {error}") from error
        self._brackets = False
        while isinstance(made, textarena.Wrapper):  # they would say everything again each time, and do not pickle
            self._brackets |= isinstance(made, textarena.wrappers.ActionFormattingWrapper)
            made = made.env
        self.game: Any = made

    def begin(self, seed: int) -> str:
        """Starts a game and returns its rules.

        Raises:
            ConfigError: the game is for several players.
        """
        try:
            self.game.reset(num_players=1, seed=seed)
        except AssertionError as error:
            raise ConfigError(f"{self.name} is not a game for one player: {error}. Choose one that is.") from error
        self._prompt = self._news()
        return self._prompt

    def move(self, action: str) -> tuple[str, float, bool, bool, float]:
        """Makes one move; the game pays at its end, and 1 is a success."""
        bare = self._brackets and "[" not in action and "]" not in action
        over, _ = self.game.step(f"[{action}]" if bare else action)
        news = self._news()
        if not over:
            return news, 0.0, False, False, 0.0
        rewards, info = self.game.close()
        reward = float(rewards[0])
        return "\n".join(filter(None, (news, str(info[0].get("reason") or "")))), reward, True, False, float(reward >= 1)

    def tries(self) -> Sequence[str]:
        """Returns the moves that the rules show, several times, and one that is wrong."""
        shown = re.findall(r"\[[^\[\]\n]{1,20}\]", self._prompt) or ["[1]"]
        return [*(shown * 4)[:5], "hm"]

    def _news(self) -> str:
        """Returns what the game has said since the last call, without the player's own words."""
        player, messages = self.game.get_observation()
        return "\n".join(text for sender, text, _ in messages if sender != player)


gym.register("TextArena/Game-v0", entry_point="arpo_envs.hubs.textarena:make")
