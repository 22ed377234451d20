"""Why a stack cannot be copied, in words: which layer, which attribute, and what to do about it."""

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from .errors import NotForkable
from .members import SHARED


def copied_by_reset(layer: "gym.Env[Any, Any]") -> NotForkable:
    """Says that a layer inherits `EzPickle`."""
    return NotForkable(
        f"{type(layer).__name__} inherits gymnasium.utils.EzPickle, which copies it by constructing a new one: its "
        "state would be lost. Drop EzPickle, or define __deepcopy__."
    )


def declared_none(wrapper: "gym.Env[Any, Any]") -> NotForkable:
    """Says that a wrapper refuses."""
    return NotForkable(f"The wrapper {type(wrapper).__name__} declares fork_level NONE.")


def undeclared(base: "gym.Env[Any, Any]", described: str) -> NotForkable:
    """Says that a base environment promises nothing.

    Args:
        base: the environment.
        described: the stack around it, as a person would name it.
    """
    return NotForkable(
        f"{described} does not declare that it can be copied. If a deep copy of {type(base).__name__} is right, "
        "say so with `fork_level = ForkLevel.EXACT` and check it with arpo_envs.testing.check_forkable_env."
    )


def failed_copy(stack: "Sequence[gym.Env[Any, Any]]", described: str, error: Exception) -> NotForkable:
    """Finds the layer and the attribute that a failed copy failed at, by copying each alone.

    Args:
        stack: the layers from the outside in.
        described: the stack, as a person would name it.
        error: what the copy raised.
    """
    for layer in stack:
        others = {id(other): other for other in stack}
        cloned = {*SHARED.of(layer), "sessions"} if layer is stack[-1] else set()  # never deep-copied
        for name, value in vars(layer).items():
            if name in cloned:
                continue
            try:
                copy.deepcopy(value, dict(others))
            except Exception as reason:  # noqa: BLE001  # a deep copy may fail in any way
                return NotForkable(
                    f"{type(layer).__name__}.{name} (a {type(value).__name__}) cannot be copied: {reason}. "
                    "Define __deepcopy__ on it or on the layer, or declare fork_level NONE."
                )
    return NotForkable(f"{described} cannot be copied: {error}")
