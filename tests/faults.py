"""Environments and wrappers with one planted fault each, and the law each of them breaks."""

import copy
import threading
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.utils import EzPickle
from tool_faults import (
    ClosesShared,
    DeafNote,
    FreshEntropy,
    Itself,
    LeavesChildren,
    LeavesPipes,
    LeavesThreads,
    NeverForgets,
    RunsAgain,
)
from toys import HandCopied, TownEnv, Walk

from arpo_envs.testing import Law


class Unreproducible(Walk):
    """Draws from a generator that reset() does not seed."""

    def __init__(self) -> None:
        super().__init__()
        self.own = np.random.default_rng()

    def step(self, action: int) -> Any:
        observation, reward, *rest = super().step(action)
        return observation, reward + self.own.random(), *rest


class NeverDeclared(Walk):
    fork_level = None


class ClaimsExact(Walk):
    """Says EXACT and holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class ResetByCopy(Walk, EzPickle):
    """Inherits EzPickle: a deep copy is a new environment."""

    def __init__(self) -> None:
        super().__init__()
        EzPickle.__init__(self)


class SilentlyResets(Walk):
    """Copies that forget where they were."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "SilentlyResets":
        twin = SilentlyResets(self.limit)
        memo[id(self)] = twin
        return twin


class ForgetsField(HandCopied):
    """A copy by hand that forgets a counter."""

    def __init__(self, limit: int = 5, render_mode: str | None = None) -> None:
        super().__init__(limit, render_mode)
        self.bonus = 0

    def reset(self, **kwargs: Any) -> Any:
        self.bonus = 0
        return super().reset(**kwargs)

    def step(self, action: int) -> Any:
        self.bonus += 1
        observation, reward, *rest = super().step(action)
        return observation, reward + self.bonus, *rest


class SharesList(HandCopied):
    """A shallow copy: parent and child append to one list."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharesList":
        twin = super().__deepcopy__(memo)
        twin.path = self.path
        return twin


class ClassLevel(Walk):
    """Keeps its state on the class. One environment at a time, nobody notices."""

    counts: ClassVar[list[int]] = []

    def reset(self, **kwargs: Any) -> Any:
        self.counts.clear()
        return super().reset(**kwargs)

    def step(self, action: int) -> Any:
        self.counts.append(action)
        observation, reward, *rest = super().step(action)
        return observation, reward + len(self.counts), *rest


class NewGenerator(HandCopied):
    """The copy's random state starts anew."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "NewGenerator":
        twin = super().__deepcopy__(memo)
        twin._np_random = np.random.default_rng(0)
        return twin


class SharedGenerator(HandCopied):
    def __deepcopy__(self, memo: dict[int, Any]) -> "SharedGenerator":
        twin = super().__deepcopy__(memo)
        twin._np_random = self._np_random
        return twin


class DrawsWhenCopied(HandCopied):
    def __deepcopy__(self, memo: dict[int, Any]) -> "DrawsWhenCopied":
        self.np_random.random()
        return super().__deepcopy__(memo)


class DeafToSeeds(Walk):
    """Has a reseed() that forgets the generator it draws from."""

    def reseed(self, seed: int) -> None:
        pass


class AcceptsAll(TownEnv):
    """Cannot tell itself from one with other arguments."""

    def identity(self) -> str:
        return ""


class HarmedByRefusal(TownEnv):
    def identity(self) -> str:
        self._turn += 1
        return super().identity()


class GivesItsList(Walk):
    """Puts the list it keeps into info."""

    def observed(self) -> Any:
        observation, _ = super().observed()
        return observation, {"path": self.path}


class GivesOneArray(Walk):
    """Fills one array again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = np.zeros(2)

    def observed(self) -> Any:
        observation, _ = super().observed()
        self.buffer[:] = self.path[-1]
        return observation, {"nested": [{"ends": self.buffer[:1]}]}


class GivesConstant(Walk):
    """Puts one nested constant into every info of every copy."""

    schema: ClassVar[dict[str, Any]] = {"tools": [{"name": "echo"}]}

    def observed(self) -> Any:
        observation, _ = super().observed()
        return observation, {"schema": (self.schema["tools"],)}


class ForgetsWhenPickled(TownEnv):
    """A __getstate__ that drops what only pickling drops."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_tool_calls": 0, "_turn": 0}


class PickledByReset(TownEnv, EzPickle):
    """Copies well (ToolEnv does that) and pickles as EzPickle does: reset."""

    def __init__(self) -> None:
        super().__init__()
        EzPickle.__init__(self)


class OutsideCounter(gym.Wrapper):
    """A time limit whose counter lives in a module's dictionary."""

    counts: ClassVar[dict[int, int]] = {}

    def reset(self, **kwargs: Any) -> Any:
        self.counts[id(self)] = 0
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        self.counts[id(self)] = self.counts.get(id(self), 0) + 1
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, self.counts[id(self)] >= 3, info


class ForgetfulWrapper(gym.Wrapper):
    """A wrapper whose copy forgets a counter that only shows later."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.total = 0

    def reset(self, **kwargs: Any) -> Any:
        self.total = 0
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        self.total += 1
        return super().step(action)

    def __deepcopy__(self, memo: dict[int, Any]) -> "ForgetfulWrapper":
        twin = ForgetfulWrapper(copy.deepcopy(self.env, memo))
        memo[id(self)] = twin
        return twin


class Locked(gym.Wrapper):
    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.guard = threading.Lock()


class ResetWrapper(gym.Wrapper, EzPickle):
    def __init__(self, env: gym.Env) -> None:
        EzPickle.__init__(self, env)
        gym.Wrapper.__init__(self, env)


class NoisyInner(gym.Wrapper):
    """Adds noise from a generator hidden in a list, where reseeding does not look."""

    def reset(self, **kwargs: Any) -> Any:
        self.hidden = [np.random.default_rng(7)]
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        observation, reward, *rest = super().step(action)
        return observation, float(reward) + self.hidden[0].random(), *rest


class KeepsInfo(gym.Wrapper):
    """Grows one list of messages and returns it every time; Gymnasium's check_env lets this pass."""

    def reset(self, **kwargs: Any) -> Any:
        observation, info = super().reset(**kwargs)
        self.messages = [observation]
        return observation, info | {"messages": self.messages}

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        self.messages.append(observation)
        return observation, reward, terminated, truncated, info | {"messages": self.messages}


class SameGenerator(TownEnv):
    """Its session draws from the environment's own generator."""

    def reset(self, **kwargs: Any) -> Any:
        returned = super().reset(**kwargs)
        self.sessions[1].rng = self.np_random
        return returned


FAULTS = [
    (Law.REPRODUCIBLE, lambda: Unreproducible()),
    (Law.LEVEL, lambda: NeverDeclared()),
    (Law.LEVEL, lambda: ClaimsExact()),
    (Law.LEVEL, lambda: ResetByCopy()),
    (Law.LEVEL, lambda: ResetWrapper(Walk())),
    (Law.LEVEL, lambda: Locked(TownEnv())),
    (Law.LEVEL, lambda: TownEnv(note=RunsAgain())),
    (Law.REPEATS, lambda: SilentlyResets()),
    (Law.REPEATS, lambda: ForgetsField()),
    (Law.REPEATS, lambda: ClassLevel()),
    (Law.REPEATS, lambda: OutsideCounter(Walk())),
    (Law.INDEPENDENT, lambda: SharesList()),
    (Law.INDEPENDENT, lambda: ClassLevel()),
    (Law.INDEPENDENT, lambda: SharedGenerator()),
    (Law.INDEPENDENT, lambda: TownEnv(note=Itself())),
    (Law.RESEED, lambda: DeafToSeeds()),
    (Law.RESEED, lambda: TownEnv(note=DeafNote())),
    (Law.RESEED, lambda: TownEnv(note=FreshEntropy())),
    (Law.RESEED, lambda: NoisyInner(TownEnv())),
    (Law.UNTOUCHED, lambda: DrawsWhenCopied()),
    (Law.REFUSAL, lambda: AcceptsAll()),
    (Law.REFUSAL, lambda: HarmedByRefusal()),
    (Law.TRAVELS, lambda: NewGenerator()),
    (Law.TRAVELS, lambda: SharedGenerator()),
    (Law.TRAVELS, lambda: OutsideCounter(TownEnv())),
    (Law.TRAVELS, lambda: ForgetfulWrapper(Walk())),
    (Law.TRAVELS, lambda: SameGenerator()),
    (Law.CLOSE, lambda: TownEnv(note=ClosesShared())),
    (Law.CLOSE, lambda: TownEnv(note=Itself())),
    (Law.NO_OBJECT_LEAKS, lambda: TownEnv(note=NeverForgets())),
    (Law.NO_OBJECT_LEAKS, lambda: TownEnv(note=LeavesThreads())),
    (Law.NO_HANDLE_LEAKS, lambda: TownEnv(note=LeavesPipes())),
    (Law.NO_HANDLE_LEAKS, lambda: TownEnv(note=LeavesChildren())),
    (Law.INFO, lambda: GivesItsList()),
    (Law.INFO, lambda: GivesOneArray()),
    (Law.INFO, lambda: GivesConstant()),
    (Law.INFO, lambda: KeepsInfo(TownEnv())),
    (Law.DEEPCOPY, lambda: SilentlyResets()),
    (Law.PORTABLE, lambda: ForgetsWhenPickled()),
    (Law.PORTABLE, lambda: PickledByReset()),
]


ENTANGLED_LAWS = {Law.FAITHFUL, Law.REPEATS, Law.INDEPENDENT, Law.UNTOUCHED, Law.CLOSE, Law.DEEPCOPY}
"""Laws that share a cause: a fault that breaks one of these breaks others with it."""

ENTANGLED = {"HarmedByRefusal", "NewGenerator", "SharedGenerator", "OutsideCounter"}
"""Faults that break more than one law."""
