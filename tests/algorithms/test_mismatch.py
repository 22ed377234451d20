"""Truncated importance sampling, and what is logged about a sampler that is not the learner."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.learner.mismatch import Mismatch, importance_weights, log_ratios

pytestmark = pytest.mark.numeric

COUNTED = torch.tensor([[False, True, True, False], [False, True, False, False], [False, False, False, False]])
LEARNER = torch.tensor([[0.0, 0.5, 0.9, 0.0], [0.0, 0.1, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]).log()
SAMPLER = torch.tensor([[0.0, 0.25, 0.3, 0.0], [0.0, 0.4, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]).log()
"""Ratios 2 and 3 on the first path, 1/4 on the second; elsewhere log 0 − log 0 is not a number, and must not matter."""


def test_token_weights_by_hand() -> None:
    weight_BT = importance_weights(LEARNER, SAMPLER, COUNTED, cap=2.5)
    assert weight_BT.flatten().tolist() == pytest.approx([1, 2, 2.5, 1, 1, 0.25, 1, 1, 1, 1, 1, 1])


def test_sequence_weights_by_hand() -> None:
    weight_BT = importance_weights(LEARNER, SAMPLER, COUNTED, "sequence", cap=5.0)
    assert weight_BT.flatten().tolist() == pytest.approx([1, 5, 5, 1, 1, 0.25, 1, 1, 1, 1, 1, 1])


def test_metrics_by_hand() -> None:
    token, sequence = Mismatch("token"), Mismatch("sequence")
    for mismatch in (token, sequence):
        mismatch.add(LEARNER[:1], SAMPLER[:1], COUNTED[:1])
        mismatch.add(LEARNER[1:], SAMPLER[1:], COUNTED[1:])
    kl = ((2 - 1 - math.log(2)) + (3 - 1 - math.log(3)) + (0.25 - 1 - math.log(0.25))) / 3
    assert token.metrics() == pytest.approx(
        {"mismatch_kl": kl, "mismatch_ratio_max": 3.0, "effective_sample_size": 5.25**2 / (3 * (4 + 9 + 1 / 16))}, rel=1e-5
    )
    assert sequence.metrics()["effective_sample_size"] == pytest.approx(6.25**2 / (2 * (36 + 1 / 16)), rel=1e-5)


def test_nothing_trained_on_is_no_mismatch() -> None:
    assert Mismatch().metrics() == {}, "nothing was computed, so that nothing is known"


@given(st.lists(st.floats(-30, 0), min_size=1, max_size=8), st.sampled_from(["token", "sequence"]))
@settings(max_examples=50, deadline=None)
def test_a_sampler_that_agrees_changes_nothing(logps: list[float], level: str) -> None:
    logp_BT, mismatch = torch.tensor([logps]), Mismatch(level)  # type: ignore[arg-type]
    counted_BT = torch.ones_like(logp_BT, dtype=torch.bool)
    assert bool((importance_weights(logp_BT, logp_BT, counted_BT, level) == 1.0).all())  # type: ignore[arg-type]
    mismatch.add(logp_BT, logp_BT, counted_BT)
    assert mismatch.metrics() == pytest.approx({"mismatch_kl": 0.0, "mismatch_ratio_max": 1.0, "effective_sample_size": 1.0})


@given(st.lists(st.tuples(st.floats(-2000, 0), st.floats(-2000, 0)), min_size=1, max_size=8), st.floats(1.0, 10.0))
@settings(max_examples=100, deadline=None)
def test_weights_are_bounded_and_the_effective_share_is_one(pairs: list[tuple[float, float]], cap: float) -> None:
    learner_BT, sampler_BT = (torch.tensor([list(column)], dtype=torch.float64) for column in zip(*pairs, strict=True))
    counted_BT, mismatch = torch.ones_like(learner_BT, dtype=torch.bool), Mismatch("sequence")
    for level in ("token", "sequence"):
        weight_BT = importance_weights(learner_BT, sampler_BT, counted_BT, level, cap)  # type: ignore[arg-type]
        assert bool(((weight_BT >= 0.0) & (weight_BT <= cap)).all())
    mismatch.add(learner_BT, sampler_BT, counted_BT)
    assert mismatch.metrics()["effective_sample_size"] == pytest.approx(1.0), "one path is all of the sample"


def test_the_gradient_does_not_flow_through_the_weight() -> None:
    logp_BT = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    assert not importance_weights(logp_BT, logp_BT.detach() - 0.1, torch.ones(1, 2, dtype=torch.bool)).requires_grad


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="one shape"):
        log_ratios(torch.zeros(2, 3), torch.zeros(3), torch.ones(2, 3, dtype=torch.bool))
