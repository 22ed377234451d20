"""An adapter that makes the Arcade Learning Environment forkable, and adapters that only seem to."""

import copy
import threading
from functools import cache
from typing import Any, ClassVar

import ale_py
import gymnasium as gym
import numpy as np
from ale_py.env import AtariEnv

from arpo_envs import ForkLevel

ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
REPEATED = 0.25
"""How often the button of before stays pressed, whatever the action; ALE's own default."""
ONE_AT_A_TIME = threading.RLock()


@cache
def emulator(repeated: float) -> AtariEnv:
    """Returns what all episodes take turns at: loading Pong takes longer than an episode."""
    return AtariEnv(game="pong", obs_type="ram", frameskip=4, repeat_action_probability=repeated)


@cache
def begun(repeated: float) -> Any:
    """Returns the state in which every episode begins."""
    emulator(repeated).reset(seed=0)
    return emulator(repeated).clone_state(include_rng=True)


class Atari(gym.Env[Any, Any]):
    """Pong, seen as its memory of 128 bytes; one action in four is the one before, drawn from `np_random`."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    fork_level = ForkLevel.EXACT
    repeated_by_emulator: ClassVar[float] = 0.0

    def __init__(self) -> None:
        self.observation_space, self.action_space = gym.spaces.Box(0, 255, (128,), np.uint8), gym.spaces.Discrete(6)
        self.state: Any = None
        self.pressed, self.memory = 0, np.zeros(128, np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        with ONE_AT_A_TIME:
            self.state, self.pressed = begun(self.repeated_by_emulator), 0
            emulator(self.repeated_by_emulator).restore_state(self.state)
            self.memory = emulator(self.repeated_by_emulator).ale.getRAM().copy()
        return self.last()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.press(int(action))
        with ONE_AT_A_TIME:
            resumed = self.resumed()
            _, reward, terminated, truncated, _ = resumed.step(self.pressed)
            self.state, self.memory = self.saved(resumed), resumed.ale.getRAM().copy()
        observation, info = self.last()
        return observation, float(reward), terminated, truncated, info

    def last(self) -> tuple[Any, dict[str, Any]]:
        return self.memory.copy(), {"pressed": self.pressed}

    def press(self, button: int) -> None:
        if self.np_random.random() >= REPEATED:
            self.pressed = button

    def resumed(self) -> AtariEnv:
        emulator(self.repeated_by_emulator).restore_state(self.state)
        return emulator(self.repeated_by_emulator)

    def saved(self, resumed: AtariEnv) -> Any:
        return resumed.clone_state(include_rng=True)


class Unrestored(Atari):
    """Plays on in whatever state the emulator is, which is its copies' as well."""

    def resumed(self) -> AtariEnv:
        return emulator(self.repeated_by_emulator)


class OtherDice(Atari):
    """Its copies draw from a generator that begins anew."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "OtherDice":
        twin = memo[id(self)] = object.__new__(type(self))
        vars(twin).update(copy.deepcopy(vars(self), memo))
        twin.np_random = np.random.default_rng(99)
        return twin


class EmulatorDice(Atari):
    """Leaves the repeating to ALE, whose states hold its random numbers, but not the action that it would repeat."""

    repeated_by_emulator = REPEATED

    def press(self, button: int) -> None:
        self.pressed = button


class UnsavedDice(EmulatorDice):
    """Saves as `clone_state` does unless told otherwise: without the random numbers."""

    def saved(self, resumed: AtariEnv) -> Any:
        return resumed.clone_state()


class Declared(AtariEnv):
    """ALE's environment as it is, which inherits `EzPickle`, with a promise that it does not keep."""

    fork_level = ForkLevel.EXACT

    def __init__(self) -> None:
        super().__init__(game="pong", obs_type="ram")
