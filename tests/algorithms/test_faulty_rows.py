"""The second door: credit that is no number costs its own path, and the others are trained on as if it were not there."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from credit_toys import crafted
from model_toys import tiny_model

from algorithms.advantages import Credit, Scores
from algorithms.advantages.penalties import kl_penalties
from algorithms.advantages.soft import SoftAttribution
from algorithms.advantages.token_returns import TokenReturns
from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.losses.clip import ClipLoss
from algorithms.packing.flat import rows_of, without_faults
from algorithms.tree import RolloutTree

TREES = [crafted(), crafted((0.0, 1.0, 0.5))]


def spoilt(credit: Credit, field: str, value: float, place: int = -1) -> Credit:
    """The credit of the first tree's second path with one number changed."""
    given = getattr(credit, field)
    row = given[0][1].copy()
    row[place] = value
    return replace(credit, **{field: ((given[0][0], row, given[0][2]), *given[1:])})


def dropped(credit: Credit) -> Credit:
    weights = credit.weights
    return replace(credit, weights=((weights[0][0], np.zeros_like(weights[0][1]), weights[0][2]), *weights[1:]))


def updated(credit: Credit, scores: Scores = Scores()) -> tuple[dict[str, Any], dict[str, float]]:
    model = tiny_model(vocabulary=32, dtype=torch.float64)
    learner = TorchLearner(model, LearnerConfig(learning_rate=1e-3, packing="flat"))
    metrics = learner.update(TREES, credit, scores, ClipLoss(), "token")
    return dict(model.state_dict()), dict(metrics)


@pytest.mark.parametrize(
    ("field", "value"),
    [("advantages", math.nan), ("advantages", math.inf), ("advantages", -1e300), ("weights", math.nan), ("weights", -1.0)],
)
def test_a_path_whose_credit_is_no_number_is_left_out_and_counted(
    field: str, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    credit = SoftAttribution()(TREES, Scores())
    weights, metrics = updated(spoilt(credit, field, value))
    wanted, without = updated(dropped(credit))
    assert (metrics["faulty_rows"], without["faulty_rows"]) == (1.0, 0.0)
    assert metrics["gradient_norm"] > 0
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)
    assert "1 of 6 paths are not finite" in caplog.text


def test_a_number_that_does_not_count_may_be_none() -> None:
    credit = spoilt(SoftAttribution()(TREES, Scores()), "advantages", math.nan, place=0)
    assert without_faults(rows_of(TREES, credit))[1] == 0


@pytest.mark.parametrize("field", ["reference", "values"])
def test_scores_that_are_no_numbers_are_faults_too(field: str) -> None:
    credit = SoftAttribution()(TREES, Scores())
    scored = tuple(tuple(np.zeros(len(tree.tokens(leaf))) for leaf in tree.leaves()) for tree in TREES)
    scored[0][1][-1] = math.nan
    assert without_faults(rows_of(TREES, credit, Scores(**{field: scored})))[1] == 1


def reference(trees: Sequence[RolloutTree], value: float) -> Scores:
    """A reference that agrees, but for one token of the first tree."""
    agreed = [[np.array([p for n, stop in tree.path(leaf) for p in tree.nodes[n].logprobs[:stop]]) for leaf in tree.leaves()]
              for tree in trees]  # fmt: skip
    agreed[0][1][-1] = value
    return Scores(reference=tuple(map(tuple, agreed)))


def test_a_token_that_the_reference_forbids_is_no_infinite_penalty() -> None:
    scores = reference(TREES, -math.inf)
    penalty = kl_penalties(TREES[0], 0, scores, 0.1)
    assert penalty[1][-1] == -0.1 * 20.0
    credit = TokenReturns(kl=0.1)(TREES, scores)
    assert all(np.isfinite(row).all() for rows in credit.advantages for row in rows)


def test_a_reference_that_forbids_a_token_in_the_loss_moves_finite_weights() -> None:
    model = tiny_model(vocabulary=32)
    learner = TorchLearner(model, LearnerConfig(learning_rate=1e-3), reference=True)
    credit = SoftAttribution()(TREES, Scores())
    metrics = learner.update(TREES, credit, reference(TREES, -math.inf), ClipLoss(kl=0.1), "token")
    assert (metrics["faulty_rows"], metrics["skipped_updates"]) == (0.0, 0.0)
    assert all(value.isfinite().all() for value in model.state_dict().values())
