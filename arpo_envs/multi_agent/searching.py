"""One agent of a deep search as a Gymnasium environment."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym

from ..core import ToolEnv
from ..errors import ConfigError
from ..partners import Partner
from ..tasks import Task, TaskSource
from .game import DeepSearch
from .side import SingleAgent

if TYPE_CHECKING:
    from pettingzoo import AECEnv


class SearchingAgent(SingleAgent):
    """The solver's or the reader's side of `deep_search_v0`; see `single_agent`. It is rendered in the mode of the game.

    Args:
        env: the game, turn by turn.
        agent: the one that acts.
        others: by name, the functions that act for the others.

    Raises:
        ConfigError: as `SingleAgent`.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "human"], "render_fps": 1}  # type: ignore[misc]  # Gymnasium declares it on instances

    def __init__(self, env: "AECEnv[str, str, str]", agent: str, others: Mapping[str, str | Partner]) -> None:
        super().__init__(env, agent, others)
        self._shown = 0  # of what was said in the game, how much was printed

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Starts a game as `SingleAgent` does; `{"task": id}` asks for one task instead of a random one.

        Raises:
            ConfigError: an option is unknown, no task has that id, or game after game ends without this agent's turn.
        """
        if strange := set(options or {}) - {"task"}:
            raise ConfigError(f"Unknown reset options {sorted(strange)}; only 'task' is known.")
        returned = super().reset(seed=seed, options=options)
        self._shown = 0
        if self.render_mode == "human":
            self.render()
        return returned

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Takes one action as `SingleAgent` does."""
        observation, reward, terminated, truncated, info = super().step(action)
        if self.render_mode == "human":
            self._print([] if self._running else [("end", f"{'answered' if terminated else 'truncated'}, reward {reward:g}")])
        return observation, reward, terminated, truncated, info

    def render(self) -> str | None:
        """Returns the game so far, all agents in it, as text, in mode "ansi".

        In mode "human", reset and step print what is new in it. A clone prints what happens in itself.

        Raises:
            ResetNeeded: no episode was started.
        """
        if self.render_mode is None:
            gym.logger.warn("render() was called without a render_mode; pass render_mode='ansi' or 'human'.")
            return None
        self.task  # noqa: B018  # raises when there is no episode
        if self.render_mode == "human":
            self._print()
            return None
        return super().render()

    def _print(self, end: Sequence[tuple[str, str]] = ()) -> None:
        from ..screen import show  # rich is imported only where something is shown

        said = self.game.said(self._name)
        show([*said[self._shown :], *end])
        self._shown = len(said)

    def side(self, name: str) -> ToolEnv:
        """Returns the environment in which an agent acts."""
        return self.game.seats[name]

    @property
    def game(self) -> DeepSearch:
        """The state of the game."""
        game: DeepSearch = self.table.unwrapped.game
        return game

    @property
    def tasks(self) -> TaskSource:
        """Where the games' questions come from."""
        return self.game.solver.tasks

    @property
    def task(self) -> Task:
        """The task of the game.

        Raises:
            ResetNeeded: no episode was started.
        """
        return self.game.solver.task

    def anchor(self) -> str | None:
        """Returns a name of the current state for step-level credit; see `ToolEnv.anchor`."""
        return self.side(self._name).anchor()

    def forfeit(self) -> float:
        """Returns what the game would pay this agent if it ended now without an answer."""
        return self.game.earned(self._name, self.game.solver.forfeit())

    @property
    def tools(self) -> tuple[Any, ...]:
        """The tools of all agents; see `DeepSearch.tools`."""
        return self.game.tools

    @tools.setter
    def tools(self, tools: tuple[Any, ...]) -> None:
        self.game.tools = tools

    @property
    def sessions(self) -> dict[tuple[str, int], Any]:
        """The sessions of all agents."""
        return self.game.sessions

    def release(self) -> None:
        """Closes the sessions of all agents."""
        self.game.release()
