"""Clone and snapshot through any stack of wrappers; `restoring` goes back.

A clone is ONE deep copy of the whole stack with one memo, so that a wrapper's counters, the random
state and the tools' sessions travel together; `gym.make`'s default stack included. Wrappers hide
custom methods and keep counters of their own, hence functions on the stack rather than methods.
"""

import copy
import enum
import pickle
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.utils import EzPickle
from numpy.typing import NDArray

from .errors import ArpoError, CloneError, SnapshotMismatch
from .members import IDENTITY, PARK, RELEASE, REPLAYED_CALLS, RESEED, SESSIONS, TABLE

_FORMAT = 1

EnvT = TypeVar("EnvT", bound="gym.Env[Any, Any]")


class ForkLevel(enum.Enum):
    """How faithfully an environment, wrapper or tool can be copied mid-episode."""

    EXACT = "exact"
    """State is copied, or shared and immutable: nothing is executed again."""
    REPLAY = "replay"
    """State is rebuilt by re-running the recorded actions; those calls are counted and cost budget."""
    NONE = "none"
    """It cannot be copied; asking raises and never silently resets."""

    def __lt__(self, other: "ForkLevel") -> bool:
        """Orders by faithfulness: NONE < REPLAY < EXACT."""
        order = [ForkLevel.NONE, ForkLevel.REPLAY, ForkLevel.EXACT]
        return order.index(self) < order.index(other)


def layers(env: "gym.Env[Any, Any]") -> "list[gym.Env[Any, Any]]":
    """Returns the wrappers from the outside in, Gymnasium's or PettingZoo's, and the base environment last."""
    kinds: Any = (gym.Wrapper,)
    if (games := sys.modules.get("pettingzoo.utils.wrappers")) is not None:  # not imported for those who have no game
        kinds += (games.BaseWrapper, games.BaseParallelWrapper)
    stack = [env]
    while isinstance(stack[-1], kinds):
        stack.append(getattr(stack[-1], "env"))  # noqa: B009  # no type says that both kinds have it
    return stack


def fork_level(env: "gym.Env[Any, Any]") -> ForkLevel:
    """Returns the lowest level declared anywhere in the stack.

    Closed by default: a base environment that declares no `fork_level` has level NONE. A wrapper
    counts as copyable unless it declares otherwise, or inherits `EzPickle` (whose copies lose their state).
    """
    stack = layers(env)
    levels = [getattr(stack[-1], "fork_level", ForkLevel.NONE)]
    levels += [level for layer in stack[:-1] if isinstance(level := _declared(layer), ForkLevel)]
    if any(_copies_by_reset(layer) for layer in stack):
        return ForkLevel.NONE
    return min(levels)


def clone(env: EnvT, *, seed: int | None = None) -> EnvT:
    """Returns an independent copy of the whole stack, in the middle of its episode.

    Args:
        env: any stack whose base declares a `fork_level` other than NONE.
        seed: None keeps the random state equal; a number reseeds environment, wrappers and sessions.

    Raises:
        NotForkable: some layer cannot be copied; the message names it (and the attribute).
        CloneError: a tool could not make its copy this time.

    >>> import gymnasium as gym, arpo_envs
    >>> env = gym.make("ARPO/Search-v0", cities_per_country=2)
    >>> obs, info = env.reset(seed=7)
    >>> twin = arpo_envs.clone(env)
    >>> env.step("<search>Bordeaux</search>") == twin.step("<search>Bordeaux</search>")
    True
    """
    _require_forkable(env)
    twin = _deepcopy(env, {})
    if seed is not None:
        reseed(twin, seed)
    return twin


def clone_many(env: EnvT, seeds: Sequence[int | None]) -> "list[EnvT | CloneError]":
    """Returns one clone per seed; a child that could not be made is a `CloneError` in its place.

    Tool sessions are asked once for all copies, because a remote sandbox forks n ways in one call.

    Raises:
        NotForkable: no child can be made at all.
    """
    _require_forkable(env)
    sessions = SESSIONS.of(env.unwrapped)
    copies: dict[int, list[Any]] = {}
    try:
        for session in sessions.values():
            if id(session) not in copies:
                copies[id(session)] = session.clone(len(seeds))
    except BaseException:
        for clones in copies.values():
            _close_sessions(dict(enumerate(clones)))
        raise
    children: list[EnvT | CloneError] = []
    for i, seed in enumerate(seeds):
        mine = {key: clones[i] for key, clones in copies.items()}
        try:
            children.append(_child(env, mine, seed))
        except CloneError as failed:
            _close_sessions(mine)
            children.append(failed.with_traceback(None))  # a traceback would keep every frame's objects alive
        except BaseException:
            for child in children:
                if not isinstance(child, CloneError):
                    child.close()
            for later in range(i, len(seeds)):
                _close_sessions({key: clones[later] for key, clones in copies.items()})
            raise
    return children


def _child(env: EnvT, sessions: dict[int, Any], seed: int | None) -> EnvT:
    """Returns a copy of the stack that holds these clones of its sessions, keyed by the originals' id."""
    failed = next((session for session in sessions.values() if isinstance(session, CloneError)), None)
    if failed is not None:
        raise failed
    child = _deepcopy(env, dict(sessions))
    adopted = {id(session) for session in SESSIONS.of(child.unwrapped).values()}
    if not adopted.issuperset(map(id, sessions.values())):
        child.close()
        raise CloneError(f"{describe(env)} was closed while it was being cloned.")
    if seed is not None:
        reseed(child, seed)
    return child


def _close_sessions(sessions: dict[int, Any]) -> None:
    for session in sessions.values():
        if not isinstance(session, CloneError):
            session.close()


def reseed(env: "gym.Env[Any, Any]", seed: int) -> None:
    """Makes all randomness of the stack a function of `seed`, without touching anything else.

    A layer with a `reseed` method is asked; in any other layer, every attribute that is a
    `numpy.random.Generator` is replaced.
    """
    _ = getattr(env.unwrapped, "np_random", None)  # Gymnasium makes it when first used, from the machine's entropy
    for depth, layer in enumerate(layers(env)):
        own = RESEED.own(layer)
        if own is not None:
            own(int(np.random.SeedSequence([seed, depth]).generate_state(1)[0]))
            continue
        for index, name in enumerate(sorted(vars(layer))):
            value = vars(layer)[name]
            if isinstance(value, np.random.Generator):
                setattr(layer, name, reseeded(value, [seed, depth, index]))


def reseeded(generator: np.random.Generator, entropy: Sequence[int]) -> np.random.Generator:
    """Returns a generator of the same kind as `generator`, seeded from `entropy` alone."""
    bits: Any = type(generator.bit_generator)
    seeds: NDArray[Any] = np.random.SeedSequence(list(entropy)).generate_state(4)
    return np.random.Generator(bits([int(s) for s in seeds]))


class Snapshot:
    """A parked copy of an environment stack; it owns what it parks until it is closed.

    Use it as a context manager, or call `close()`. It may be restored any number of times.
    """

    def __init__(self, parked: "gym.Env[Any, Any]") -> None:
        self.format = _FORMAT
        self.owner = describe(parked)
        self._identity = stack_identity(parked)
        self._parked: gym.Env[Any, Any] | None = parked

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._parked is None

    @property
    def portable(self) -> bool:
        """Whether it pickles, and so may travel to another process."""
        try:
            pickle.dumps(self)
        except Exception:  # noqa: BLE001  # any object may refuse in any way; the question is only whether it does
            return False
        return True

    @property
    def replayed_calls(self) -> int:
        """How many tool calls were run again to take it; 0 unless a tool's level is REPLAY."""
        return REPLAYED_CALLS.of(self._usable().unwrapped)

    def spawn(self, *, seed: int | None = None) -> "gym.Env[Any, Any]":
        """Returns a live environment in the parked state; `seed` as in `clone`.

        Raises:
            SnapshotMismatch: the snapshot is closed or of another version of this package.
        """
        return clone(self._usable(), seed=seed)

    def spawn_many(self, seeds: Sequence[int | None]) -> "list[gym.Env[Any, Any] | CloneError]":
        """Returns one live environment per seed; failures are values, as in `clone_many`.

        Raises:
            SnapshotMismatch: as `spawn`.
        """
        return clone_many(self._usable(), seeds)

    def parked_for(self, env: "gym.Env[Any, Any]") -> "gym.Env[Any, Any]":
        """Returns the parked stack, which may only be read, if it fits another one.

        Raises:
            SnapshotMismatch: the snapshot is foreign (both owners are named) or stale.
        """
        parked = self._usable()
        if self._identity != stack_identity(env):
            raise SnapshotMismatch(
                f"Foreign snapshot: it was taken of {self.owner}, this is {describe(env)}. "
                "Restore it into an environment built with the same wrappers and arguments."
            )
        return parked

    def close(self) -> None:
        """Frees the parked copy; harmless when called twice."""
        if self._parked is not None:
            self._parked.close()
            self._parked = None

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Closes it."""
        self.close()

    def _usable(self) -> "gym.Env[Any, Any]":
        if self.format != _FORMAT:
            raise SnapshotMismatch(
                f"Stale snapshot of {self.owner}: written in format {self.format}, this version reads {_FORMAT}. Take it again."
            )
        if self._parked is None:
            raise SnapshotMismatch(f"Stale snapshot of {self.owner}: it was closed. Restore before closing it.")
        return self._parked


def snapshot(env: "gym.Env[Any, Any]") -> Snapshot:
    """Parks a copy of the whole stack; the environment itself does not change.

    A tool's session that has a method `park` is asked for a copy that can only be cloned and closed, which may cost
    less to keep than a live one (a remote sandbox's snapshot instead of a running machine).

    Raises:
        NotForkable, CloneError: as `clone`.
    """
    _require_forkable(env)
    parked: dict[int, Any] = {}
    try:
        for session in SESSIONS.of(env.unwrapped).values():
            if id(session) not in parked:
                park = PARK.of(session)
                parked[id(session)] = park() if park is not None else session.clone(1)[0]
        return Snapshot(_child(env, parked, None))
    except BaseException:
        _close_sessions(parked)
        raise


def describe(env: "gym.Env[Any, Any]") -> str:
    """Returns the stack as a person would name it: `TimeLimit<OrderEnforcing<SearchEnv ARPO/Search-v0>>`."""
    stack = layers(env)
    spec = getattr(stack[-1], "spec", None)
    inner = type(stack[-1]).__name__ + (f" {spec.id}" if spec is not None else "")
    for layer in reversed(stack[:-1]):
        inner = f"{type(layer).__name__}<{inner}>"
    return inner


def stack_identity(env: "gym.Env[Any, Any]") -> tuple[str, ...]:
    """Returns what two stacks must share for a snapshot of one to fit the other."""
    stack = layers(env)
    names = [f"{type(layer).__module__}.{type(layer).__qualname__}" for layer in stack]
    names += [_plain(getattr(layer, "_saved_kwargs", {})) for layer in stack[:-1]]
    own = IDENTITY.of(stack[-1])
    return (*names, own() if own is not None else _plain(getattr(stack[-1].spec, "kwargs", {})))


def _plain(arguments: dict[str, Any]) -> str:
    """Returns the arguments that mean the same in every process: numbers, strings and what holds them, no other objects."""
    return repr([(name, _listed(arguments[name])) for name in sorted(arguments) if _is_plain(arguments[name])])


def _listed(value: Any) -> Any:
    """Returns a plain value as it comes back from a spec that was written as JSON: tuples are lists, and keys strings."""
    if isinstance(value, dict):
        return {str(name): _listed(part) for name, part in value.items()}
    return [_listed(part) for part in value] if isinstance(value, list | tuple) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _declared(wrapper: "gym.Env[Any, Any]") -> object:
    """Returns the level a wrapper's class declares or inherits; asked of the class, because an instance may forward."""
    return getattr(type(wrapper), "fork_level", None)


def _copies_by_reset(layer: "gym.Env[Any, Any]") -> bool:
    return isinstance(layer, EzPickle) and "__deepcopy__" not in dir(type(layer))


def _require_forkable(env: "gym.Env[Any, Any]") -> None:
    if fork_level(env) is ForkLevel.NONE:
        from . import refusals  # only a fork that fails needs them

        stack = layers(env)
        for layer in stack:
            if _copies_by_reset(layer):
                raise refusals.copied_by_reset(layer)
            if layer is not stack[-1] and _declared(layer) is ForkLevel.NONE:
                raise refusals.declared_none(layer)
        if (game := TABLE.of(stack[-1])) is not None:
            _require_forkable(game)
        raise refusals.undeclared(stack[-1], describe(env))


def _deepcopy(env: EnvT, memo: dict[int, Any]) -> EnvT:
    try:
        return copy.deepcopy(env, memo)
    except Exception as error:  # a deep copy may fail in any way; it is re-raised with the culprit's name
        _abandon(memo.get(id(env.unwrapped)))
        if isinstance(error, ArpoError):
            raise
        from . import refusals

        raise refusals.failed_copy(layers(env), describe(env), error) from error


def _abandon(twin: Any) -> None:
    """Frees the sessions of a base environment that was copied before a wrapper around it failed."""
    if twin is not None and SESSIONS.of(twin):  # else it failed before it held anything
        RELEASE.of(twin)()
