"""`ActionMenu`: an action is a number on a menu of actions, so that tabular and classic deep RL run."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from arpo_envs import ConfigError

from .remembering import Remembering, copied_but_for, imported

Menu: TypeAlias = Callable[[gym.Env[str, str], str], Sequence[str]]
"""Given the environment (for its task and dialect) and the last observation, returns the actions to choose from."""


class ActionMenu(Remembering[str, int], RecordConstructorArgs):
    """Offers a menu of actions at every step, and takes the number of one of them.

    There are always `size` numbers. A longer menu ends there; a shorter one begins again, so no number is wasted on a
    mistake. Where there is nothing to choose, the action is empty. `info["menu"]` holds what each number stands for now.

    Args:
        env: a text environment.
        size: how many numbers there are, at least 1.
        menu: see `Menu`; a function, or its import path "package.module:name", which keeps the environment's spec
            serialisable. `menus.phrases` searches for, or answers, what the last observation says. It is shared by
            clones, never copied, and must not change the environment.

    Raises:
        ConfigError: the size is below 1, or the import path leads nowhere.

    >>> import gymnasium as gym
    >>> env = ActionMenu(gym.make("ARPO/Search-v0", split="test"), size=4)
    >>> question, info = env.reset(options={"task": "city-2886242/country/capital"})
    >>> info["menu"][:2]
    ('<search>Köln</search>', '<answer>Köln</answer>')
    """

    def __init__(self, env: gym.Env[str, str], size: int, menu: Menu | str = "wrappers.menus:phrases") -> None:
        RecordConstructorArgs.__init__(self, size=size, menu=menu, _disable_deepcopy=True)
        Remembering.__init__(self, env)
        if size < 1:
            raise ConfigError(f"size must be at least 1, got {size}.")
        self._menu_of: Menu = imported(menu, "menu")
        self._size = size
        self._menu: tuple[str, ...] = ("",) * size
        self.action_space: gym.Space[Any] = gym.spaces.Discrete(size)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Starts an episode and returns the question; its menu is in the info."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._offered(observation, info)

    def step(self, action: int) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        """Takes the action that this number stands for."""
        observation, reward, terminated, truncated, info = self.env.step(self._menu[int(action)])
        observation, info = self._offered(observation, info)
        return observation, reward, terminated, truncated, info

    def __deepcopy__(self, memo: dict[int, Any]) -> "ActionMenu":
        """Copies everything but the function that makes menus."""
        return copied_but_for(self._menu_of, self, memo)

    def _offered(self, observation: str, info: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        actions = self._menu_of(self.env, observation) or [""]
        self._menu = tuple(actions[number % len(actions)] for number in range(self._size))
        return self._returned(observation, {**info, "menu": self._menu})
