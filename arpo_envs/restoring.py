"""Puts a stack of wrappers back into the state of a snapshot."""

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from .errors import NotForkable
from .forking import Snapshot, layers
from .members import CONFIGURATION, COPIED_STATE, LAST, RELEASE, SUB_ENVS


def restore(env: "gym.Env[Any, Any]", snap: Snapshot) -> tuple[Any, dict[str, Any]]:
    """Puts the stack back, in place, into the state of the snapshot.

    Attributes that the class of a layer names in `configuration` are not state and stay as they are.

    Args:
        env: the stack the snapshot was taken of, or another one built the same way.
        snap: a snapshot that is still open; it stays usable.

    Returns:
        The observation and info last returned at that state, as `last_returned` finds them.

    Raises:
        SnapshotMismatch: the snapshot is foreign (both owners are named) or stale.
        NotForkable: no layer knows what was last returned; nothing is changed.
    """
    parked = snap.parked_for(env)
    returned = last_returned(layers(parked))
    live, frozen = _all_layers(env), _all_layers(parked)
    memo: dict[int, Any] = {id(old): new for old, new in zip(frozen, live, strict=True)}
    states = [_copied_state(layer, memo) for layer in frozen]  # all copied before anything is replaced
    RELEASE.of(env.unwrapped)()
    for layer, state in zip(live, states, strict=True):
        fixed = CONFIGURATION.of(type(layer))
        kept = {name: value for name, value in vars(layer).items() if name in fixed}
        vars(layer).clear()
        vars(layer).update({name: value for name, value in state.items() if name not in fixed} | kept)
    return returned


def last_returned(stack: "Sequence[gym.Env[Any, Any]]") -> tuple[Any, dict[str, Any]]:
    """Returns the observation and info that the outermost layer last returned, without changing anything.

    The outermost layer with a method `last` knows both. Copies of the `gymnasium.ObservationWrapper`s outside it then transform
    the observation. What other layers outside it change in either is not seen here.

    Args:
        stack: the layers from the outside in.

    Raises:
        NotForkable: no layer has a method `last`, or an `ObservationWrapper` outside it steps in its own way, so its
            observation may depend on more than the inner one.
    """
    depth = next((i for i, layer in enumerate(stack) if LAST.of(layer) is not None), None)
    if depth is None:
        names = " around ".join(type(layer).__name__ for layer in stack)
        raise NotForkable(f"{names} has no method `last() -> (observation, info)`, which restore() returns.")
    returned = copy.deepcopy(stack[depth].last())  # type: ignore[attr-defined]  # checked just now
    observation, info = returned[0], returned[-1]  # PettingZoo's `last()` has the reward and the ends in between
    for layer in reversed(stack[:depth]):
        if isinstance(layer, gym.ObservationWrapper):
            observation = _seen_through(layer, observation, stack)
    return observation, info


def _seen_through(
    layer: "gym.ObservationWrapper[Any, Any, Any]", observation: Any, stack: "Sequence[gym.Env[Any, Any]]"
) -> Any:
    kind = type(layer)
    if kind.step is not gym.ObservationWrapper.step or kind.reset is not gym.ObservationWrapper.reset:
        raise NotForkable(
            f"{kind.__name__} has a step() or reset() of its own, so observation() cannot tell what it last returned. "
            "Give it a method `last() -> (observation, info)`, or wrap it in a layer that has one."
        )
    others = {id(other): other for other in stack if other is not layer}
    return copy.deepcopy(layer, others).observation(observation)  # a copy: it may count its calls


def _all_layers(env: "gym.Env[Any, Any]") -> "list[gym.Env[Any, Any]]":
    """Returns the layers of a stack, and those of the environments that its base is made of: each has a configuration."""
    stack = layers(env)
    return [*stack, *(layer for part in SUB_ENVS.of(stack[-1]).values() for layer in _all_layers(part))]


def _copied_state(layer: "gym.Env[Any, Any]", memo: dict[int, Any]) -> dict[str, Any]:
    """Returns a deep copy of a parked layer's attributes in which parked layers have become live ones."""
    copied = COPIED_STATE.own(layer)
    if copied is not None:
        return dict(copied(memo))
    if _copies_itself(type(layer)):
        others = {key: value for key, value in memo.items() if key != id(layer)}
        return vars(copy.deepcopy(layer, others))
    return dict(copy.deepcopy(vars(layer), memo))


def _copies_itself(kind: type) -> bool:
    """Whether a class says how `copy.deepcopy` is to copy it, which may leave out what cannot be copied."""
    ways = ("__getstate__", "__reduce__", "__reduce_ex__")
    return hasattr(kind, "__deepcopy__") or any(getattr(kind, way) is not getattr(object, way) for way in ways)
