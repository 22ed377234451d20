"""What a stack of wrappers last returned, for `restore`: no layer is asked to step again."""

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from .errors import NotForkable
from .members import LAST


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
    observation, info = copy.deepcopy(stack[depth].last())  # type: ignore[attr-defined]  # checked just now
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
