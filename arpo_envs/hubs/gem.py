"""Environments of GEM (`gem-llm`) here: `gym.make("arpo_envs.hubs.gem:GEM/Game-v0", game="game:Mastermind-v0-easy")`."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium as gym

from ..errors import ConfigError
from .text_game import TextGame, unknown_game
from .tried import make_game

_INSTRUCTIONS = "Each of your messages is one action. What counts as your action is what you write inside \\boxed{}."


def make(game: str, *, fork: str = "auto", **options: Any) -> "gym.Env[Any, Any]":
    r"""Returns an environment of GEM.

    Args:
        game: its id, such as "game:GuessTheNumber-v0-easy".
        fork: "auto" finds out how it forks; "replay" replays even what could be copied.
        options: arguments of the environment.

    Raises:
        ConfigError: GEM is not installed, has no such environment, or cannot make it.
        NotForkable: it does not repeat.
    """
    return make_game(Gem, fork, {"game": game, **options})


class Gem(TextGame):
    """An environment of GEM.

    Args:
        game: its id.
        options: its arguments.

    Raises:
        ConfigError: GEM is not installed, has no such environment, or cannot make it.
    """

    def __init__(self, game: str, **options: Any) -> None:
        super().__init__(_INSTRUCTIONS, {"game": game, **options})
        try:
            with own_logging():
                import gem
                from gem.envs.registration import ENV_REGISTRY
        except ImportError as error:
            raise ConfigError(
                f"GEM cannot be imported: {error}. `pip install 'arpo-envs[gem]'`, and then `pip install --no-deps "
                "--ignore-requires-python gem-llm reasoning-gym pyfiglet==1.0.2`."
            ) from error
        if game not in ENV_REGISTRY:
            raise unknown_game("GEM", game, ENV_REGISTRY)
        try:
            with self.random.lent():
                self.game = gem.make(game, **options)
        except Exception as error:  # it may fail in any way, such as without its data
            raise ConfigError(f"GEM cannot make {game}: {type(error).__name__}: {error}") from error

    def begin(self, seed: int) -> str:
        """Starts an episode and returns its instructions."""
        observation, info = self.game.reset(seed)
        return _told(observation, info)

    def move(self, action: str) -> tuple[str, float, bool, bool, float]:
        """Takes one action; an episode that is not cut off and pays at its end is a success."""
        observation, reward, terminated, truncated, info = self.game.step(action)
        over = terminated or truncated
        text = str(observation) if over else _told(observation, info)
        return text, float(reward), terminated, truncated, float(over and not truncated and reward > 0)

    def tries(self) -> Sequence[str]:
        """Returns actions that the environment samples, or an answer."""
        with self.random.lent():
            try:
                return [str(self.game.sample_random_action()) for _ in range(6)]
            except NotImplementedError:
                return [r"\boxed{1}"]


@contextmanager
def own_logging() -> Iterator[None]:
    """Leaves the root logger as it is: importing GEM would make it write everything that anyone logs."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def _told(observation: Any, info: dict[str, Any]) -> str:
    """Returns an observation with what GEM's own wrappers would append to it."""
    return "\n".join(part for part in (str(observation), str(info.get("suffix") or "")) if part)


gym.register("GEM/Game-v0", entry_point="arpo_envs.hubs.gem:make")
