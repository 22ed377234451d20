"""The constants of a machine from steps that were taken on it: each amount of work has a price, found by least squares."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from arpo_envs import ConfigError

from .machine import Layout, Machine
from .simulate import roll_out
from .update import padded, update_seconds
from .work import Shape

Array = NDArray[np.float64]

_PASSES = 3
"""In free mode the number of rounds depends a little on the constants, so they are found more than once."""
_ROBUST = 8
_DOUBT = 0.1
"""How much it counts that an amount costs another share of a step than all others, beside one step's error."""
_PRICED = ("round_seconds", "row_seconds", "prefill_seconds", "request_seconds", "turn_seconds", "fork_seconds")


@dataclass(frozen=True)
class Taken:
    """A step that was taken with one engine and one learner, and tools that answer at once.

    Args:
        shapes: its trees.
        rollout: seconds that they took.
        update: seconds that the update took.
        mode: of the rollouts.
    """

    shapes: tuple[Shape, ...]
    rollout: float
    update: float
    mode: Literal["deterministic", "free"] = "deterministic"


def fitted(taken: Sequence[Taken], *, rows: int = 256, micro_batch_tokens: int = 16384, load_seconds: float = 0.0) -> Machine:
    """Returns the constants that explain the seconds of steps best.

    Relative errors count, and in proportion, so that a step that something else disturbed does not decide. Steps that are all
    alike cannot tell the constants apart: they then predict steps like these only.

    Args:
        taken: at least one step.
        rows: see `Machine`, as for the next one.
        micro_batch_tokens: with which the steps were learned.
        load_seconds: see `Machine`; steps do not tell.

    Raises:
        ConfigError: there is no step, or one took no time.
    """
    if not taken or min(min(step.rollout, step.update) for step in taken) <= 0:
        raise ConfigError("Constants are fitted to steps whose rollouts and updates took time; there are none here.")
    total = sum(step.rollout for step in taken) / sum(shape.sampled for step in taken for shape in step.shapes)
    known: dict[str, Any] = {"rows": rows, "micro_batch_tokens": micro_batch_tokens}
    machine = Machine(total / 2, total / 2, total / 10, 0.0, **known)
    seconds = np.array([step.rollout for step in taken])
    for _ in range(_PASSES):
        prices = _priced(np.array([_amounts(step, machine) for step in taken]), seconds)
        prices[1] = max(prices[1], 1e-3 * total)  # a token that takes no time would end before it began
        machine = Machine(token_seconds=0.0, **dict(zip(_PRICED, prices.tolist(), strict=True)), **known)
    work = np.array([[1.0, *padded(step.shapes, machine)] for step in taken])
    done = work.any(axis=0)
    found = np.zeros(3)
    found[done] = _priced(work[:, done], np.array([step.update for step in taken]))
    fixed, plain, packed = found.tolist()
    return Machine(
        token_seconds=plain or packed,  # of what no step did, the other kind of row says the most
        packed_seconds=packed or plain,
        update_seconds=fixed,
        load_seconds=load_seconds,
        **dict(zip(_PRICED, prices.tolist(), strict=True)),
        **known,
    )


def unexplained(step: Taken, machine: Machine) -> float:
    """Returns the share of a step's seconds by which they differ from what a machine's constants make of it."""
    rollout = roll_out(step.shapes, machine, Layout(mode=step.mode)).seconds
    return abs((rollout + update_seconds(step.shapes, machine, 1)) / (step.rollout + step.update) - 1.0)


def _amounts(step: Taken, machine: Machine) -> list[float]:
    """Returns how much of each of `_PRICED` a step needs."""
    rolled = roll_out(step.shapes, machine, Layout(mode=step.mode))
    spent = rolled.spent
    return [spent.rounds, spent.drawn, spent.prefilled, spent.requests, rolled.turns, rolled.begun]


def _priced(amounts: Array, seconds: Array) -> Array:
    """Returns prices that are not negative and explain seconds by amounts, with about the least sum of relative errors.

    Args:
        amounts: [I, U], what each of I steps needs.
        seconds: [I], what it took.
    """
    left, right = amounts / seconds[:, None], np.ones(len(seconds))
    usual = np.diag(_DOUBT * left.mean(axis=0))  # as long as steps do not tell them apart, all amounts cost the same
    share = np.full(len(usual), _DOUBT / len(usual))
    weight = np.ones(len(seconds))
    for _ in range(_ROBUST):
        prices = not_negative(np.vstack([left * weight[:, None], usual]), np.concatenate([right * weight, share]))
        error = np.abs(left @ prices - right)
        weight = 1.0 / np.sqrt(np.maximum(error, max(1e-9, 0.1 * median(error.tolist()))))
    return prices


def not_negative(left: Array, right: Array) -> Array:
    """Returns the least-squares solution of left @ x = right among those without a negative number.

    The few unknowns allow to try which of them are 0.

    Args:
        left: [I, U], U at most about ten.
        right: [I].

    >>> not_negative(np.array([[1.0, 1.0], [1.0, 3.0]]), np.array([2.0, 1.0])).round(6).tolist()
    [1.5, 0.0]
    """
    scale = np.maximum(np.linalg.norm(left, axis=0), 1e-300)
    best, least = np.zeros(left.shape[1]), float(right @ right)
    for size in range(1, left.shape[1] + 1):
        for some in combinations(range(left.shape[1]), size):
            found, *_ = np.linalg.lstsq(left[:, some] / scale[list(some)], right)
            if (found < 0).any():
                continue
            error = float(((left[:, some] / scale[list(some)] @ found - right) ** 2).sum())
            if error < least * (1 - 1e-12):
                best, least = np.zeros(left.shape[1]), error
                best[list(some)] = found / scale[list(some)]
    return best
