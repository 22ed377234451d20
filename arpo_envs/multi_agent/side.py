"""One agent's side of a game as a Gymnasium environment: the others are part of what it acts in."""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np

from ..dialects import Dialect
from ..errors import ConfigError, unknown_name
from ..forking import ForkLevel, describe, fork_level, reseed
from ..members import DIALECT, IDENTITY, INSTRUCTIONS, RESEED, TOOL_SPECS
from ..partners import Partner, Turn, make_partner
from ..spaces import TextSpace
from ..tools.spec import ToolSpec

if TYPE_CHECKING:
    from pettingzoo import AECEnv

_PATIENCE = 20
"""Episodes in a row that may end before the agent has anything to do."""


class SingleAgent(gym.Env[str, str]):
    """One agent's side of a game; see `single_agent`.

    Where a game ends before the agent has anything to do, another one is begun.

    Args:
        env: the game, turn by turn.
        agent: the one that acts.
        others: by name, the functions that act for the others.

    Raises:
        ConfigError: an agent is unknown, one has no function, or the actions are not strings.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]  # Gymnasium declares it on instances
    shared: ClassVar[frozenset[str]] = frozenset({"spec"})
    """Attributes that clones share; everything else is copied."""
    configuration: ClassVar[frozenset[str]] = frozenset({"spec", "render_mode"})
    """Attributes that `restore` leaves as they are."""

    def __init__(self, env: "AECEnv[str, str, str]", agent: str, others: Mapping[str, str | Partner]) -> None:
        names = list(getattr(env, "possible_agents", ()))
        if not hasattr(env, "agent_iter") or not all(isinstance(env.action_space(name), TextSpace) for name in names):
            raise ConfigError(
                f"{env} is not a turn-by-turn environment whose actions are strings; expected one like deep_search_v0.env()."
            )
        self.table = env
        self._name = _full(agent, names)
        self.agent = _short(self._name, names)
        # copies: one with state of its own may be given to many environments
        self.partners = {_full(name, names): copy.deepcopy(make_partner(one)) for name, one in others.items()}
        if self._name in self.partners:
            raise ConfigError(f"{self.agent} is the one that acts, so no function can act for it. Leave one of them out.")
        if missing := [_short(name, names) for name in names if name not in (self._name, *self.partners)]:
            raise ConfigError(f"Somebody has to act for the others: give {missing[0]}=, a function or the name of one.")
        self.render_mode = env.unwrapped.render_mode
        self.observation_space, self.action_space = TextSpace(), TextSpace()
        self._running = False
        self._returned: tuple[str, dict[str, Any]] = ("", {})

    # --- Gymnasium's interface ----------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Starts a game, lets the others act until it is this agent's turn, and returns what it sees.

        Args:
            seed: as in Gymnasium; the others are reseeded with it, too.
            options: of the game.

        Raises:
            ConfigError: an option is unknown, or game after game ends without this agent's turn.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._reseed_partners(seed)
        for attempt in range(1 if options else _PATIENCE):
            self.table.reset(seed=seed if attempt == 0 else None, options=options)
            self._let_others_act()
            observation, _, terminated, truncated, info = self.table.last()
            if not terminated and not truncated:
                self._running = True
                self._returned = str(observation), dict(info)
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
        self._let_others_act()  # where one of them failed, it is still its turn
        _, _, terminated, truncated, _ = self.table.last()
        if not (terminated or truncated):
            self.table.step(action)
            self._let_others_act()
        observation, reward, terminated, truncated, info = self.table.last()
        self._running = not (terminated or truncated)
        self._returned = str(observation), dict(info)
        return str(observation), float(reward), terminated, truncated, dict(info)

    def render(self) -> str | None:
        """Returns what the game renders, in its mode."""
        if self.render_mode is None:
            gym.logger.warn("render() was called without a render_mode; make the game with one that it has.")
            return None
        text: str | None = self.table.unwrapped.render()
        return text

    def close(self) -> None:
        """Ends the game."""
        self.table.unwrapped.close()
        self._running = False

    def _let_others_act(self) -> None:
        while self.table.agents and (name := self.table.agent_selection) != self._name:
            observation, _, terminated, truncated, info = self.table.last()
            if terminated or truncated:
                self.table.step(None)
                continue
            side = self.side(name)
            begins = info.get("status") == "reset"
            known = INSTRUCTIONS.of(side), DIALECT.of(side), TOOL_SPECS.of(side)
            self.table.step(self.partners[name](Turn(str(observation), begins, *known)))

    def side(self, name: str) -> Any:
        """Returns what has the instructions, dialect and tools of an agent: here the game, in which all have the same."""
        return self.table.unwrapped

    # --- what a renderer and a trainer need, of this agent ------------------------------------------------------------

    @property
    def dialect(self) -> Dialect | None:
        """How this agent's calls and answers are written; None if actions are read as they are."""
        dialect: Dialect | None = DIALECT.of(self.side(self._name))
        return dialect

    @property
    def instructions(self) -> str:
        """How its actions must be written, for the prompt."""
        return INSTRUCTIONS.of(self.side(self._name))

    @property
    def tool_specs(self) -> tuple[ToolSpec, ...]:
        """What it may call."""
        return TOOL_SPECS.of(self.side(self._name))

    def last(self) -> tuple[str, dict[str, Any]]:
        """Returns the observation and info that the last reset or step returned."""
        observation, info = self._returned
        return observation, dict(info)

    # --- what the forking functions need ------------------------------------------------------------------------------

    @property
    def fork_level(self) -> ForkLevel:
        """That of the game; partners are copied deeply."""
        return fork_level(self.table)

    @property
    def sub_envs(self) -> "dict[str, AECEnv[str, str, str]]":
        """The game, in which `restore` goes back, too."""
        return {"table": self.table}

    def identity(self) -> str:
        """Returns what a snapshot's environment and this one must agree on: the game, and whose side this is."""
        own = IDENTITY.of(self.table.unwrapped)
        return f"{self._name}|{describe(self.table)}|{self.table if own is None else own()}"

    def reseed(self, seed: int) -> None:
        """Makes the game's and the partners' randomness a function of `seed`."""
        self.np_random = np.random.default_rng(seed)
        reseed(self.table, seed)
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


def _short(name: str, names: Sequence[str]) -> str:
    """Returns the name of an agent without its number, if no other one has the same."""
    kind = name.rpartition("_")[0]
    return kind if kind and sum(other.rpartition("_")[0] == kind for other in names) == 1 else name


def _full(agent: str, names: Sequence[str]) -> str:
    """Returns the name of an agent, which may be given without its number if no other one has the same."""
    found = next((name for name in names if agent in (name, _short(name, names))), None)
    if found is None:
        raise unknown_name("agent", agent, names)
    return found
