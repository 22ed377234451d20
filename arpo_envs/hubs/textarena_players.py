"""Games of TextArena for several players, turn by turn as in PettingZoo: `env("Nim-v0", players=2)`.

A game that can be deep-copied forks at level EXACT. Any other can be played, but refuses to be forked, snapshotted or restored:
there is no replaying of PettingZoo's interface. One player's side, in `textarena_seat`,
forks either way.
"""

from typing import Any, ClassVar

import numpy as np
from pettingzoo import AECEnv
from pettingzoo.utils.wrappers import OrderEnforcingWrapper

from ..forking import ForkLevel
from ..spaces import TextSpace
from .textarena import TextArena
from .tried import level_of

__all__ = ["env", "raw_env"]


def env(game: str, *, players: int = 2, **options: Any) -> "OrderEnforcingWrapper[str, str, str]":
    """Returns a game turn by turn (AEC), in PettingZoo's wrapper that enforces the order of calls.

    Args:
        game: its id in TextArena.
        players: how many play: agents `player_0`, `player_1` and so on.
        options: arguments of the game.

    Raises:
        ConfigError: TextArena is not installed, has no such game, cannot make it, or it is for another number of players.
        NotForkable: it does not repeat.
    """
    return OrderEnforcingWrapper(raw_env(game, players=players, **options))


class _Text(str):
    """A string whose `dtype` is that of its space: PettingZoo's `api_test` compares them."""

    __slots__ = ()
    dtype: ClassVar[None] = None


class raw_env(AECEnv[str, str, str]):  # type: ignore[misc]  # PettingZoo says nothing about its types
    """The game turn by turn, without wrappers; arguments as in `env`.

    What is not a valid move is answered by the game, and costs what the game says.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "textarena", "render_modes": [], "is_parallelizable": False}

    def __init__(self, game: str, *, players: int = 2, **options: Any) -> None:
        self._options = {"game": game, "players": players, **options}
        # a copy is all there is to fork it by: PettingZoo's interface cannot be replayed by an adapter for Gymnasium's
        self.fork_level = ForkLevel.EXACT if level_of(TextArena, self._options) is ForkLevel.EXACT else ForkLevel.NONE
        self.game = TextArena(**self._options)
        self.render_mode = None
        self.possible_agents = [f"player_{number}" for number in range(players)]
        self.agents: list[str] = []
        self.observation_spaces = {agent: TextSpace() for agent in self.possible_agents}
        self.action_spaces = {agent: TextSpace() for agent in self.possible_agents}

    def observation_space(self, agent: str) -> TextSpace:
        """Returns the space of an agent's observations: text."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> TextSpace:
        """Returns the space of an agent's actions: text."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Starts a game; `seed` as in PettingZoo, whose checks pass options that nobody knows: they are ignored."""
        rules, _ = self.game.reset(seed=seed)
        self.agents = [*self.possible_agents]
        self._told = dict.fromkeys(self.agents, "")
        self.rewards, self._cumulative_rewards = dict.fromkeys(self.agents, 0.0), dict.fromkeys(self.agents, 0.0)
        self.terminations, self.truncations = dict.fromkeys(self.agents, False), dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, Any]] = {agent: {"tool": "", "status": "reset"} for agent in self.agents}
        self._skip_agent_selection = None
        self.agent_selection = self.possible_agents[self.game.turn_of]
        self._told[self.agent_selection] = rules

    def step(self, action: str | None) -> None:
        """Takes the action of `agent_selection`, None if its game is over."""
        agent = self.agent_selection
        if self.terminations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        news, _, over, _, _ = self.game.step(action)  # type: ignore[arg-type]  # which refuses what is not a string
        self.infos = {**self.infos, agent: {"tool": "move", "status": "ok"}}
        self.rewards = dict(zip(self.possible_agents, self.game.rewards, strict=True))
        self._accumulate_rewards()
        if over:
            for name, paid in self.rewards.items():
                self.infos[name] = {**self.infos[name], "success": float(paid >= 1)}
            self.terminations = dict.fromkeys(self.agents, True)
            told = [news if number == 0 else self.game.ending(number) for number in range(len(self.possible_agents))]
            self._told = dict(zip(self.possible_agents, told, strict=True))
            self._deads_step_first()
        else:
            self.agent_selection = self.possible_agents[self.game.turn_of]
            self._told[self.agent_selection] = news

    def observe(self, agent: str) -> str:
        """Returns what an agent was told when its last turn began, or when the game ended."""
        return _Text(self._told[agent])

    def close(self) -> None:
        """Ends the game."""
        self.game.close()

    @property
    def instructions(self) -> str:
        """How a move must be written, for the prompt."""
        return self.game.instructions

    # --- what the forking functions need: they ask PettingZoo's wrapper, which forwards -----------------------------

    @property
    def np_random(self) -> np.random.Generator:
        """The generator that draws games."""
        return self.game.np_random

    def identity(self) -> str:
        """Returns what a snapshot's game and this one must agree on."""
        return self.game.identity()

    def reseed(self, seed: int) -> None:
        """Makes all randomness from here on a function of `seed`."""
        self.game.reseed(seed)
