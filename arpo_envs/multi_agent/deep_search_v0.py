"""Deep search for two agents in both of PettingZoo's interfaces: `env` (turn by turn) and `parallel_env`.

The agents are `solver_0`, who searches and answers, and `reader_0`, who sees the pages.
"""

from typing import Any, ClassVar

import numpy as np
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.wrappers import OrderEnforcingWrapper

from ..core import ToolEnv
from ..errors import ConfigError
from ..forking import ForkLevel
from ..spaces import TextSpace
from .game import AGENTS, DeepSearch

__all__ = ["Observation", "env", "parallel_env", "raw_env"]

MODES = ("ansi", "human")


class Observation(str):
    """A string whose `dtype` is that of its space: PettingZoo's `api_test` compares them."""

    __slots__ = ()
    dtype: ClassVar[None] = None


def env(**arguments: Any) -> "OrderEnforcingWrapper[str, str, str]":
    """Returns the game turn by turn (AEC), in PettingZoo's wrapper that enforces the order of calls.

    Actions out of the space are not refused: what a model writes is answered, whatever it is.

    Args:
        arguments: those of `DeepSearch`, and `render_mode`: None, "ansi" or "human".

    >>> game = env(split="test", cities_per_country=10)
    >>> game.reset(seed=1)
    >>> game.agent_selection
    'solver_0'
    """
    return OrderEnforcingWrapper(raw_env(**arguments))


class _Table:
    """What both interfaces share.

    Args:
        render_mode: None, "ansi" or "human".
        arguments: those of `DeepSearch`.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": "deep_search_v0",
        "render_modes": [*MODES],
        "render_fps": 1,
        "is_parallelizable": False,  # by PettingZoo's own wrapper, which lets everybody act in turn; `parallel_env` is one
    }
    configuration: ClassVar[frozenset[str]] = frozenset({"render_mode"})
    """Attributes that `restore` leaves as they are."""

    def __init__(self, *, render_mode: str | None = None, **arguments: Any) -> None:
        if render_mode not in (None, *MODES):
            raise ConfigError(f"render_mode must be None, 'ansi' or 'human', got {render_mode!r}.")
        self.game = DeepSearch(**arguments)
        self.render_mode = render_mode
        self.possible_agents = [*AGENTS]
        self.agents: list[str] = []
        self.observation_spaces = {agent: TextSpace() for agent in AGENTS}
        self.action_spaces = {agent: TextSpace() for agent in AGENTS}

    def observation_space(self, agent: str) -> TextSpace:
        """Returns the space of an agent's observations: text."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> TextSpace:
        """Returns the space of an agent's actions: text."""
        return self.action_spaces[agent]

    def render(self) -> str | None:
        """Returns the game so far as text in mode "ansi", and prints it in mode "human"."""
        if self.render_mode == "human":
            from ..screen import show  # rich is imported only where something is shown

            show(self.game.said())
        return self.game.render() if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Ends the game."""
        self.game.close()

    # --- what the forking functions need: they ask PettingZoo's wrappers, which forward -----------------------------

    @property
    def fork_level(self) -> ForkLevel:
        """The lowest level of the tools."""
        return self.game.fork_level

    @property
    def sub_envs(self) -> dict[str, ToolEnv]:
        """Each agent's own environment, in which `restore` goes back."""
        return self.game.seats

    @property
    def sessions(self) -> dict[tuple[str, int], Any]:
        """The sessions of both agents."""
        return self.game.sessions

    @property
    def np_random(self) -> np.random.Generator:
        """The generator that draws tasks."""
        return self.game.solver.np_random

    def identity(self) -> str:
        """Returns what a snapshot's game and this one must agree on."""
        return self.game.identity()

    def release(self) -> None:
        """Closes the sessions of both agents."""
        self.game.release()

    def reseed(self, seed: int) -> None:
        """Makes all randomness a function of `seed`."""
        self.game.reseed(seed)

    def _start(self, seed: int | None, options: dict[str, Any] | None) -> None:
        # other options are for other environments: PettingZoo's tests pass one that none knows
        wanted = {name: value for name, value in (options or {}).items() if name == "task"}
        self.game.reset(seed=seed, options=wanted)
        self.agents = [*AGENTS]

    def _infos(self) -> dict[str, dict[str, Any]]:
        return {agent: self.game.info(agent) for agent in self.agents}


class raw_env(_Table, AECEnv[str, str, str]):  # type: ignore[misc]  # PettingZoo says nothing about its types
    """The game turn by turn, without wrappers; arguments as in `env`."""

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Starts a game.

        Args:
            seed: as in PettingZoo.
            options: `{"task": id}` asks for one task instead of a random one.
        """
        self._start(seed, options)
        self.rewards = dict.fromkeys(AGENTS, 0.0)
        self._cumulative_rewards = dict.fromkeys(AGENTS, 0.0)
        self._skip_agent_selection = None
        self._publish()

    def step(self, action: str | None) -> None:
        """Takes the action of `agent_selection`, None if its game is over."""
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        self.game.step(action)  # type: ignore[arg-type]  # which refuses what is not a string
        paid = 0.0 if self.game.running else self.game.reward
        self.rewards = {one: self.game.earned(one, paid) for one in AGENTS}
        self._publish()
        self._accumulate_rewards()

    def observe(self, agent: str) -> str:
        """Returns what an agent has to act on; empty while it waits."""
        return Observation(self.game.observe(agent))

    def _publish(self) -> None:
        self.agent_selection = self.game.turn
        self.terminations = dict.fromkeys(AGENTS, self.game.terminated)
        self.truncations = dict.fromkeys(AGENTS, self.game.truncated)
        self.infos = self._infos()


class parallel_env(_Table, ParallelEnv[str, str, str]):  # type: ignore[misc]  # as above
    """The game for both agents at once: only the one whose `info["acts"]` is true is heard, the other one waits.

    Arguments as in `env`.
    """

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
        """Starts a game; see `raw_env.reset`."""
        self._start(seed, options)
        return self.last()

    def step(
        self, actions: dict[str, str]
    ) -> tuple[dict[str, str], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Takes the action of the agent whose turn it is.

        Args:
            actions: by agent; those of an agent that waits are ignored, and may be left out.

        Raises:
            ConfigError: the agent whose turn it is has none.
        """
        if self.game.turn not in actions and self.game.running:
            raise ConfigError(f"It is the turn of {self.game.turn}, and `actions` has none of it: {sorted(actions)}.")
        self.game.step(actions.get(self.game.turn, ""))
        observations, infos = self.last()
        paid = 0.0 if self.game.running else self.game.reward
        rewards = {agent: self.game.earned(agent, paid) for agent in AGENTS}
        ends = dict.fromkeys(AGENTS, self.game.terminated), dict.fromkeys(AGENTS, self.game.truncated)
        self.agents = [*AGENTS] if self.game.running else []
        return observations, rewards, *ends, infos

    def last(self) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
        """Returns what the agents see now, and their infos."""
        return {agent: self.game.observe(agent) for agent in self.agents}, self._infos()
