"""Takes actions apart and puts results together, as Gymnasium does, for any number of rows."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import concatenate, create_empty_array, iterate
from numpy.typing import NDArray

from ..errors import ConfigError, RowError
from .dispatch import Outcome
from .row import Step

Batch = tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]


def separate(space: "gym.Space[Any]", actions: Any, count: int) -> list[Any]:
    """Returns the actions of single rows.

    Args:
        space: of `count` rows.
        actions: one for each, batched as Gymnasium does for this space.
        count: the number of rows.

    Raises:
        ConfigError: there are more or fewer.
        TypeError: one string was given instead of a sequence of them.
    """
    if isinstance(actions, str):
        raise TypeError("Expected one action per row, got a single string.")
    single = list(iterate(space, actions))
    if len(single) != count:
        raise ConfigError(f"Expected {count} actions, one per row, got {len(single)}.")
    return single


def together(space: "gym.Space[Any]", observations: Sequence[Any]) -> Any:
    """Returns observations batched as Gymnasium does for this space, sharing nothing with the rows."""
    empty: Any = create_empty_array(space, n=len(observations), fn=np.zeros)
    return copy.deepcopy(concatenate(space, observations, empty))


def infos_together(infos: Mapping[int, Mapping[str, Any]], width: int | None = None) -> dict[str, Any]:
    """Returns infos as a dict of arrays with masks (`_key`).

    Args:
        infos: by row.
        width: None for arrays that hold these rows only, in this order; else their length, and each row has its own place.

    Raises:
        RowError: an info does not fit beside those before it.

    >>> infos_together({4: {"turn": 1}, 5: {"turn": 3, "answer": "France"}})["_answer"]
    array([False,  True])
    """
    vector: VectorEnv[Any, Any, Any] = VectorEnv()
    vector.num_envs = len(infos) if width is None else width
    joined: dict[str, Any] = {}
    for place, (row, info) in enumerate(infos.items()):
        try:
            joined = vector._add_info(joined, dict(info), place if width is None else row)
        except (ValueError, TypeError, AttributeError) as error:
            raise RowError(row, {row: error}, {}) from error
    return joined


def required_steps(outcomes: Mapping[int, Outcome]) -> dict[int, Step]:
    """Returns what rows returned.

    Raises:
        RowError: some failed; it holds what the others returned.
    """
    failed = {row: outcome for row, outcome in outcomes.items() if isinstance(outcome, Exception)}
    steps = {row: outcome for row, outcome in outcomes.items() if isinstance(outcome, Step)}
    if failed:
        first = min(failed)
        raise RowError(first, failed, steps) from failed[first]
    return steps


def batch(space: "gym.Space[Any]", steps: Mapping[int, Step]) -> Batch:
    """Returns the five values of a step, each with one place per row, in the order given."""
    each = list(steps.values())
    return (
        together(space, [step.observation for step in each]),
        np.array([step.reward for step in each], np.float64),
        np.array([step.terminated for step in each], np.bool_),
        np.array([step.truncated for step in each], np.bool_),
        infos_together({row: step.info for row, step in steps.items()}),
    )
