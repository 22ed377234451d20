"""A game of dice that forks well, ones that cannot (each breaks another law), and a player of Nim."""

import itertools
import random
import re
import threading
from typing import Any, ClassVar

import gymnasium as gym
from gymnasium.utils import EzPickle

from arpo_envs import TextSpace, Turn


class Dice(gym.Env[str, str]):
    """Each action but "stop" throws a die; the observation is every throw so far, the reward at the end their sum."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self) -> None:
        self.observation_space, self.action_space = TextSpace(), TextSpace()
        self.throws: list[int] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.throws = list((options or {}).get("throws", ()))
        return self.shown(), {"throws": tuple(self.throws)}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if action != "stop":
            self.throws.append(self.thrown())
        over = action == "stop" or len(self.throws) >= 6
        return self.shown(), float(sum(self.throws)) * over, over, False, {"tool": "die", "throws": tuple(self.throws)}

    def thrown(self) -> int:
        return int(self.np_random.integers(1, 7))

    def shown(self) -> str:
        return f"\n{self.throws}\n"


class Locked(Dice):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Ez(Dice, EzPickle):
    """Is copied by constructing a new one."""

    def __init__(self) -> None:
        Dice.__init__(self)
        EzPickle.__init__(self)


class GlobalDice(Dice):
    """Throws with Python's global generator, which a reset seeds."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        random.seed(seed)
        return super().reset(seed=seed, options=options)

    def thrown(self) -> int:
        return random.randint(1, 1000)


class Clock(Dice):
    """Shows how often any of its kind was looked at, as a clock would go on."""

    ticks: ClassVar[Any] = itertools.count()

    def shown(self) -> str:
        return f"{next(self.ticks)}: {self.throws}"


class OneTable(Dice):
    """All of its kind throw onto one table."""

    table: ClassVar[list[int]] = []

    def thrown(self) -> int:
        self.table.append(super().thrown())
        return len(self.table)


class Failing(Dice):
    """Fails in a step, once told to; counts who is open."""

    opened: ClassVar[set[int]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.opened.add(id(self))

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if action == "fail":
            raise RuntimeError("The die rolled off the table.")
        return super().step(action)

    def close(self) -> None:
        self.opened.discard(id(self))


def takes_one(turn: Turn) -> str:
    """Plays Nim: one object of the first pile that has any."""
    piles = re.findall(r"pile (\d+): (\d+)", turn.observation)[-3:]
    return f"[{next(pile for pile, number in piles if int(number))} 1]"
