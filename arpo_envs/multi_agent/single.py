"""One agent of several as a Gymnasium environment: the others are part of what it acts in."""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np

from ..core import ToolEnv
from ..dialects import Dialect
from ..errors import ConfigError, unknown_name
from ..forking import ForkLevel
from ..members import RESEED
from ..partners import Partner, Turn, make_partner
from ..spaces import TextSpace
from ..tasks import Task, TaskSource
from ..tools.spec import ToolSpec
from .game import AGENTS, DeepSearch

if TYPE_CHECKING:
    from pettingzoo import AECEnv

_PATIENCE = 20
"""Episodes in a row that may end before the agent has anything to do."""


def single_agent(env: "AECEnv[str, str, str]", agent: str, **others: str | Partner) -> "SingleAgent":
    """Returns a Gymnasium environment of one agent of a PettingZoo environment of this package.

    Args:
        env: turn by turn, such as `deep_search_v0.env()`; it belongs to the new environment from now on.
        agent: the one that acts: "solver", or "solver_0".
        others: for every other agent a function from a `Turn` to an action, or the name of one; it is copied (`deepcopy`).

    Raises:
        ConfigError: an agent is unknown, or one has no function.

    >>> from arpo_envs.multi_agent import deep_search_v0
    >>> game = deep_search_v0.env(split="test", cities_per_country=10)
    >>> env = single_agent(game, "solver", reader="extractive")
    >>> question, info = env.reset(options={"task": "city-2886242/country/capital"})
    >>> env.step("<search>Köln</search>")[0].partition("†")[2][:4], env.step("<read>country</read>")[0]
    ('Köln', '<result>country: Germany</result>')
    """
    return SingleAgent(env, agent, others)


class SingleAgent(gym.Env[str, str]):
    """One agent's side of a game; see `single_agent`.

    Where a game ends before the agent has anything to do, another one is begun. It is rendered in the mode of the game.

    Args:
        env: the game, turn by turn.
        agent: the one that acts.
        others: by name, the functions that act for the others.

    Raises:
        ConfigError: an agent is unknown, or one has no function.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "human"], "render_fps": 1}  # type: ignore[misc]  # Gymnasium declares it on instances
    shared: ClassVar[frozenset[str]] = frozenset({"spec"})
    """Attributes that clones share; everything else is copied."""
    configuration: ClassVar[frozenset[str]] = frozenset({"spec", "render_mode"})
    """Attributes that `restore` leaves as they are."""

    def __init__(self, env: "AECEnv[str, str, str]", agent: str, others: Mapping[str, str | Partner]) -> None:
        if not isinstance(getattr(env.unwrapped, "game", None), DeepSearch) or not hasattr(env, "agent_iter"):
            raise ConfigError(
                f"{env} is none of this package's environments turn by turn; expected one like deep_search_v0.env()."
            )
        self.table = env
        self._name = _full(agent)
        self.agent = self._name.rpartition("_")[0]
        # copies: one with state of its own may be given to many environments
        self.partners = {_full(name): copy.deepcopy(make_partner(one)) for name, one in others.items()}
        if self._name in self.partners:
            raise ConfigError(f"{self.agent} is the one that acts, so no function can act for it. Leave one of them out.")
        if missing := [name.rpartition("_")[0] for name in AGENTS if name not in (self._name, *self.partners)]:
            raise ConfigError(f"Somebody has to act for the others: give {missing[0]}=, a function or the name of one.")
        self.render_mode = env.unwrapped.render_mode
        self.observation_space, self.action_space = TextSpace(), TextSpace()
        self._running = False
        self._returned: tuple[str, dict[str, Any]] = ("", {})
        self._shown = 0  # of what was said in the game, how much was printed

    # --- Gymnasium's interface ----------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Starts a game, lets the others act until it is this agent's turn, and returns what it sees.

        Args:
            seed: as in Gymnasium; the others are reseeded with it, too.
            options: `{"task": id}` asks for one task instead of a random one.

        Raises:
            ConfigError: an option is unknown, no task has that id, or game after game ends without this agent's turn.
        """
        super().reset(seed=seed)
        if strange := set(options or {}) - {"task"}:
            raise ConfigError(f"Unknown reset options {sorted(strange)}; only 'task' is known.")
        if seed is not None:
            self._reseed_partners(seed)
        for attempt in range(1 if options else _PATIENCE):
            self.table.reset(seed=seed if attempt == 0 else None, options=options)
            self._let_others_act()
            observation, _, terminated, truncated, info = self.table.last()
            if not terminated and not truncated:
                self._running, self._shown = True, 0
                self._returned = str(observation), dict(info)
                if self.render_mode == "human":
                    self.render()
                return self.last()
        raise ConfigError(
            f"The others ended {'this episode' if options else f'{_PATIENCE} episodes'} without asking the {self.agent}."
        )

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Takes one action, and lets the others act until it is this agent's turn again, or the game is over.

        Raises:
            ResetNeeded: the episode is over, or never began.
            TypeError: the action is not a string.
        """
        if not self._running:
            raise gym.error.ResetNeeded("The episode is over (or never began): call reset() before step().")
        self.table.step(action)
        self._let_others_act()
        observation, reward, terminated, truncated, info = self.table.last()
        self._running = not (terminated or truncated)
        self._returned = str(observation), dict(info)
        if self.render_mode == "human":
            self._print([] if self._running else [("end", f"{'answered' if terminated else 'truncated'}, reward {reward:g}")])
        return str(observation), float(reward), terminated, truncated, dict(info)

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
        text: str | None = self.table.unwrapped.render()
        return text

    def close(self) -> None:
        """Ends the game."""
        self.table.unwrapped.close()
        self._running = False

    def _print(self, end: Sequence[tuple[str, str]] = ()) -> None:
        from ..screen import show  # rich is imported only where something is shown

        said = self.game.said(self._name)
        show([*said[self._shown :], *end])
        self._shown = len(said)

    def _let_others_act(self) -> None:
        while self.table.agents and (name := self.table.agent_selection) != self._name:
            observation, _, terminated, truncated, info = self.table.last()
            if terminated or truncated:
                self.table.step(None)
                continue
            seat = self.game.seats[name]
            begins = info["status"] == "reset"
            turn = Turn(str(observation), begins, seat.instructions, seat.dialect, seat.tool_specs)
            self.table.step(self.partners[name](turn))

    # --- what a renderer and a trainer need, of this agent ------------------------------------------------------------

    @property
    def game(self) -> DeepSearch:
        """The state of the game."""
        game: DeepSearch = self.table.unwrapped.game
        return game

    @property
    def dialect(self) -> Dialect:
        """How this agent's calls and answers are written."""
        return self._seat.dialect

    @property
    def instructions(self) -> str:
        """How its actions must be written, for the prompt."""
        return self._seat.instructions

    @property
    def tool_specs(self) -> tuple[ToolSpec, ...]:
        """What it may call."""
        return self._seat.tool_specs

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

    def last(self) -> tuple[str, dict[str, Any]]:
        """Returns the observation and info that the last reset or step returned."""
        observation, info = self._returned
        return observation, dict(info)

    def anchor(self) -> str | None:
        """Returns a name of the current state for step-level credit; see `ToolEnv.anchor`."""
        return self._seat.anchor()

    def forfeit(self) -> float:
        """Returns what the game would pay this agent if it ended now without an answer."""
        return self.game.earned(self._name, self.game.solver.forfeit())

    @property
    def _seat(self) -> ToolEnv:
        return self.game.seats[self._name]

    # --- what the forking functions need ------------------------------------------------------------------------------

    @property
    def fork_level(self) -> ForkLevel:
        """The lowest level of the tools; partners are copied deeply."""
        return self.game.fork_level

    @property
    def sessions(self) -> dict[tuple[str, int], Any]:
        """The sessions of all agents."""
        return self.game.sessions

    def identity(self) -> str:
        """Returns what a snapshot's environment and this one must agree on: the game, and whose side this is."""
        return f"{self._name}|{self.game.identity()}"

    def release(self) -> None:
        """Closes the sessions of all agents."""
        self.game.release()

    def reseed(self, seed: int) -> None:
        """Makes the game's and the partners' randomness a function of `seed`."""
        self.np_random = np.random.default_rng(seed)
        self.game.reseed(seed)
        self._reseed_partners(seed)

    def _reseed_partners(self, seed: int) -> None:
        for index, name in enumerate(sorted(self.partners)):
            if (own := RESEED.of(self.partners[name])) is not None:
                own(int(np.random.SeedSequence([seed, index]).generate_state(1)[0]))

    def copied_state(self, memo: dict[int, Any]) -> dict[str, Any]:
        """Returns a copy of all attributes; the game clones its sessions."""
        return {name: value if name in self.shared else copy.deepcopy(value, memo) for name, value in vars(self).items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> "SingleAgent":
        """Makes a user's own `copy.deepcopy` correct, too."""
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        vars(twin).update(self.copied_state(memo))
        return twin


def _full(agent: str) -> str:
    """Returns the name of an agent, which may be given without its number."""
    found = next((name for name in AGENTS if agent in (name, name.rpartition("_")[0])), None)
    if found is None:
        raise unknown_name("agent", agent, AGENTS)
    return found
