"""Trees as flat rows: every leaf's whole path is one row. Simple, and the oracle for anything cleverer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..advantages import Array, Credit, Scores, sampled_weights
from ..tree import RolloutTree

_LARGEST = 1e29
"""In absolute value; times the largest ratio it is still finite in single precision."""


@dataclass(frozen=True)
class Row:
    """One path, position by position.

    Args:
        tokens: [T] ids.
        behaviour_logp: [T] log-probabilities of the sampler, nats.
        advantage: [T].
        weight: [T]; 0 where a token does not count.
        reference_logp: [T], nats, or None.
        old_value: [T], what the value head expected before the update, or None.
        returns: [T], the value head's targets, or None.
        old_logp: [T], nats, of the learner before the update; None if the update is a single step: then it is the
            log-probability being computed.
    """

    tokens: NDArray[np.int64]
    behaviour_logp: Array
    advantage: Array
    weight: Array
    reference_logp: Array | None = None
    old_value: Array | None = None
    returns: Array | None = None
    old_logp: Array | None = None


def rows_of(trees: Sequence[RolloutTree], credit: Credit, scores: Scores = Scores()) -> list[Row]:
    """Returns one row per leaf, in the order of the trees and of their leaves' keys.

    Raises:
        ValueError: credit and trees do not have the same leaves.
    """
    rows = []
    for t, tree in enumerate(trees):
        leaves = tree.leaves()
        if not len(leaves) == len(credit.advantages[t]) == len(credit.weights[t]):
            raise ValueError(f"Tree {t} has {len(leaves)} leaves, credit has {len(credit.advantages[t])}.")
        for position, leaf in enumerate(leaves):
            rows.append(
                Row(
                    tree.along(leaf, "tokens").astype(np.int64),
                    tree.along(leaf, "logprobs").astype(np.float64),
                    credit.advantages[t][position],
                    credit.weights[t][position],
                    *(None if one is None else one[t][position] for one in (scores.reference, scores.values, credit.returns)),
                )
            )
    return rows


def sampled_rows(trees: Sequence[RolloutTree]) -> list[Row]:
    """Returns all rows, in which every sampled token counts."""
    blank = tuple(tuple(np.zeros(tree.length(leaf)) for leaf in tree.leaves()) for tree in trees)
    return rows_of(trees, Credit(blank, tuple(sampled_weights(tree) for tree in trees)))


def without_faults(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """Returns the rows, without weight those with a number that counts but is not finite, and how many of these there are.

    An estimator that divides by 0 on one path must not spoil the others. Where nothing counts, all numbers become 0.
    """
    sound = [_is_sound(row) for row in rows]
    counted = [(row.weight > 0.0) & fine for row, fine in zip(rows, sound, strict=True)]
    return [_only(row, counted_T) for row, counted_T in zip(rows, counted, strict=True)], len(rows) - sum(sound)


def _is_sound(row: Row) -> bool:
    if not (np.isfinite(row.weight).all() and (row.weight >= 0.0).all()):
        return False
    counted_T = row.weight > 0.0
    numbers = [row.advantage, *(one for one in (row.old_value, row.returns) if one is not None)]
    known = row.reference_logp is None or not np.isnan(row.reference_logp[counted_T]).any()
    return known and all((np.abs(number[counted_T]) <= _LARGEST).all() for number in numbers)


def _only(row: Row, counted_T: NDArray[np.bool_]) -> Row:
    """Returns a row whose numbers are 0 where nothing counts: a weight of 0 times NaN is NaN."""
    names = ("advantage", "weight", "reference_logp", "old_value", "returns")
    given = {name: getattr(row, name) for name in names}
    kept: dict[str, Any] = {name: np.where(counted_T, one, 0.0) for name, one in given.items() if one is not None}
    return replace(row, **kept)


@dataclass(frozen=True)
class FlatBatch:
    """Right-padded rows; column t of the [B, T] tensors belongs to token t, which position t − 1 predicts.

    Nothing predicts position 0, so it has weight 0.
    """

    ids_BT: torch.Tensor
    behaviour_logp_BT: torch.Tensor
    advantage_BT: torch.Tensor
    weight_BT: torch.Tensor
    reference_logp_BT: torch.Tensor | None
    old_value_BT: torch.Tensor | None
    return_BT: torch.Tensor | None
    old_logp_BT: torch.Tensor | None


def pad(rows: Sequence[Row], device: torch.device, dtype: torch.dtype = torch.float32) -> FlatBatch:
    """Returns rows as padded tensors on a device, numbers in the precision of the log-probabilities."""
    length = max(len(row.tokens) for row in rows)

    def stack(arrays: Sequence[Array | NDArray[np.int64]], dtype: torch.dtype = dtype) -> torch.Tensor:
        padded = np.zeros((len(arrays), length), dtype=np.int64 if dtype == torch.long else np.float64)
        for line, array in zip(padded, arrays, strict=True):
            line[: len(array)] = array
        return torch.from_numpy(padded).to(device=device, dtype=dtype)

    def stack_known(arrays: Sequence[Array | None]) -> torch.Tensor | None:
        known = [array for array in arrays if array is not None]
        return stack(known) if len(known) == len(rows) else None

    weight_BT = stack([row.weight for row in rows])
    weight_BT[:, 0] = 0.0
    behaviour_logp_BT = stack([row.behaviour_logp for row in rows])
    return FlatBatch(
        stack([row.tokens for row in rows], torch.long),
        behaviour_logp_BT * (weight_BT > 0),  # elsewhere log-probabilities are not computed, and a ratio could overflow
        stack([row.advantage for row in rows]),
        weight_BT,
        stack_known([row.reference_logp for row in rows]),
        stack_known([row.old_value for row in rows]),
        stack_known([row.returns for row in rows]),
        stack_known([row.old_logp for row in rows]),
    )
