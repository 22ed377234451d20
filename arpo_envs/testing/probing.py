"""Looks inside objects: where random state lives, what is mutable, and what a process holds."""

import gc
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np

from ..forking import layers
from ..members import SHARED, TOOLS
from .runs import Env

_DEPTH, _VISITS = 7, 20_000  # enough for any hand-written state, and a bound for huge ones

_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})
"""Most of what is met, told apart at once."""
_ENDS = (str, bytes, int, float, np.ndarray, type, ModuleType)
_Trail = tuple[()] | tuple["_Trail", str, Any]
"""How a part was reached: from where, how its name is written, its name."""

SETTLING = 2.0
"""Seconds that threads and processes are given to end after close()."""


def generators(root: Any, without: frozenset[int] = frozenset()) -> dict[str, Any]:
    """Returns all random generators reachable through attributes and containers, by path; aliases keep each path.

    Stops at objects whose id is in `without`, at classes, functions, modules, an environment inside a
    wrapper, and an environment's shared attributes, which are read-only.
    """
    found: dict[str, Any] = {}
    queue: deque[tuple[_Trail, Any, int]] = deque([((), root, 0)])
    seen = {id(root), *without}
    visits = 0
    while queue and visits < _VISITS:  # breadth first
        trail, value, depth = queue.popleft()
        visits += 1
        for form, name, part in _parts(value, root):
            if isinstance(part, np.random.Generator | np.random.RandomState | random.Random):
                found[_path(root, (trail, form, name))] = part
            elif depth < _DEPTH and id(part) not in seen:
                seen.add(id(part))
                queue.append(((trail, form, name), part, depth + 1))
    return found


def env_generators(env: Env) -> dict[str, Any]:
    """Returns all random generators of a stack: `generators` of each layer, outermost first."""
    tools = frozenset(id(tool) for tool in TOOLS.of(env.unwrapped))  # read-only, and maybe huge
    return {path: value for layer in layers(env) for path, value in generators(layer, tools).items()}


def random_state(generator: Any) -> Any:
    """Returns the state of a generator as a comparable value."""
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state() if isinstance(generator, np.random.RandomState) else generator.getstate()


def aliases(found: dict[str, Any]) -> set[frozenset[str]]:
    """Returns the groups of paths that lead to the same object."""
    groups: dict[int, set[str]] = {}
    for path, value in found.items():
        groups.setdefault(id(value), set()).add(path)
    return {frozenset(group) for group in groups.values() if len(group) > 1}


def _path(root: Any, trail: _Trail) -> str:
    steps: list[str] = []
    while trail:
        trail, form, name = trail
        steps.append(form.format(name))
    return type(root).__name__ + "".join(reversed(steps))


def _parts(value: Any, root: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields what may have parts itself, or be a generator: how its name is written, the name, the part."""
    kind = type(value)
    if isinstance(value, dict):
        named: Iterable[tuple[str, Any, Any]] = (("[{!r}]", key, part) for key, part in list(value.items()))
    elif isinstance(value, list | tuple | deque | set | frozenset):
        named = (("[{}]", i, part) for i, part in enumerate(list(value)))
    elif hasattr(value, "__dict__") and not callable(value):
        hidden = {*SHARED.of(kind)} if isinstance(value, gym.Env) else set()
        hidden |= {"env"} if value is root else set()
        named = ((".{}", name, part) for name, part in list(vars(value).items()) if name not in hidden)
    else:
        named = ()
    slots = [name for base in kind.__mro__ for name in _slots(base)]
    held = ((".{}", name, getattr(value, name)) for name in slots if hasattr(value, name))
    for step in chain(named, held):
        if type(step[2]) not in _PLAIN and not isinstance(step[2], _ENDS):
            yield step


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ()) if kind.__module__ not in ("builtins", "collections") else ()
    named = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in named if name not in ("__dict__", "__weakref__"))


def mutable_parts(info: Any, path: str = "info") -> Iterator[tuple[str, Any]]:
    """Yields (path, object) for every container or array in a returned value that somebody could change in place."""
    if isinstance(info, np.ndarray):
        if info.flags.writeable:
            yield path, info
        return
    if isinstance(info, dict | list | set | deque | bytearray):
        yield path, info
    if isinstance(info, dict):
        for key, part in info.items():
            yield from mutable_parts(part, f"{path}[{key!r}]")
    elif isinstance(info, list | tuple | deque):
        for i, part in enumerate(info):
            yield from mutable_parts(part, f"{path}[{i}]")


def vandalise(value: Any) -> None:
    """Changes everything mutable in a returned value, as a careless user might."""
    for _, part in list(mutable_parts(value)):
        if isinstance(part, np.ndarray):
            part[...] = np.zeros_like(part)
        elif isinstance(part, dict):
            part["changed by the user"] = True
        elif isinstance(part, set):
            part.add("changed by the user")
        elif isinstance(part, bytearray):
            part.append(0)
        else:
            part.append("changed by the user")


def live_objects(kinds: tuple[type, ...]) -> int:
    """Returns how many objects of exactly these classes are alive."""
    gc.collect()
    return sum(type(thing) in kinds for thing in gc.get_objects())


def threads() -> int:
    """Returns how many threads run, Python's and others' (if /proc is there)."""
    tasks = Path("/proc/self/task")
    return len(os.listdir(tasks)) if tasks.is_dir() else threading.active_count()


def descriptors() -> int | None:
    """Returns how many file descriptors are open, or None without /proc."""
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.is_dir() else None


def child_processes() -> int | None:
    """Returns how many child processes live (or wait to be reaped), or None without /proc."""
    tasks = Path("/proc/self/task")
    if not (tasks / str(threading.get_native_id()) / "children").exists():
        return None
    total = 0
    for task in tasks.iterdir():
        try:
            total += len((task / "children").read_text().split())
        except OSError:  # the thread ended while we looked
            continue
    return total


def settled(count: Callable[[], int], wanted: int) -> int:
    """Returns `count()` once it has come down to `wanted`, or its value after `SETTLING` seconds."""
    deadline = time.monotonic() + SETTLING
    while (now := count()) > wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    return now
