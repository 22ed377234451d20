"""Ratios that no number holds: in float32, too, a token that moved by e^120 has the gradient that the clip says."""

import math
from typing import Any

import pytest
import torch

from algorithms.learner.mismatch import Mismatch, importance_weights
from algorithms.losses import LIMIT, Loss, LossInputs, LossOutput, bounded, difference, policy_kl, with_reference_penalty
from algorithms.losses.balanced import BalancedClipLoss
from algorithms.losses.cispo import ClippedWeightLoss
from algorithms.losses.clip import ClipLoss
from algorithms.losses.gspo import SequenceClipLoss
from algorithms.packing.forward import expected

MOST = math.exp(LIMIT)
FAR = [120.0, 1000.0, math.inf]


def inputs(change: float, advantage: float, reference: float | None = None) -> LossInputs:
    """One token, whose log-probability was −1 and is so much higher, or a behaviour of −∞ for an infinite change."""
    logp = torch.tensor([[-1.0 + (change if math.isfinite(change) else min(change, 0.0))]])
    old = torch.tensor([[-1.0 if change < math.inf else -math.inf]])
    reference_BT = None if reference is None else torch.tensor([[reference]])
    return LossInputs(logp.requires_grad_(), old, torch.tensor([[advantage]]), torch.ones(1, 1), reference_BT)


def of(loss: Loss, given: LossInputs) -> tuple[float, float]:
    """The loss and its gradient."""
    output = loss(given)
    output.loss_BT.sum().backward()
    assert all(value.isfinite().all() for value in output.metrics.values())
    assert given.logp_BT.grad is not None
    return float(output.loss_BT.detach()), float(given.logp_BT.grad)


CASES: list[tuple[Any, float, float, float]] = [  # loss, advantage, value, gradient by the log-probability, far above 1
    (ClipLoss(), 2.0, -2.4, 0.0),  # −1.2 A: nothing to gain
    (ClipLoss(), -2.0, 2.0 * MOST, 2.0 * MOST),  # −ρ A, ρ at its bound: down, and not to be missed
    (ClipLoss(dual=3.0), -2.0, 6.0, 0.0),  # −c A
    (ClipLoss(dual=3.0), 2.0, -2.4, 0.0),
    (BalancedClipLoss(), 2.0, -2.4, -2.4),  # −1.2 A ρ/sg[ρ]
    (BalancedClipLoss(), -2.0, 2.0 * MOST, 2.0 * MOST),
    (SequenceClipLoss(0.2, 0.2), 2.0, -2.4, 0.0),
    (SequenceClipLoss(0.2, 0.2, level="token"), 2.0, -2.4, 0.0),
    (SequenceClipLoss(0.2, 0.2, level="token"), -2.0, 2.0 * MOST, 2.0 * MOST),
]


@pytest.mark.parametrize("change", [120.0, 1000.0])
@pytest.mark.parametrize(("loss", "advantage", "value", "gradient"), CASES)
def test_the_clip_decides_far_above_one(loss: Loss, advantage: float, value: float, gradient: float, change: float) -> None:
    assert of(loss, inputs(change, advantage)) == (pytest.approx(value, rel=1e-6), pytest.approx(gradient, rel=1e-6))


@pytest.mark.parametrize("change", [-120.0, -1000.0, -math.inf])
@pytest.mark.parametrize("loss", [case[0] for case in CASES])
def test_far_below_one_a_bad_token_has_no_gradient_and_a_good_one_hardly_any(loss: Loss, change: float) -> None:
    assert of(loss, inputs(change, -2.0)) == (pytest.approx(1.6, rel=1e-6), 0.0)
    value, gradient = of(loss, inputs(change, 2.0))
    assert (value, gradient) == (pytest.approx(-2.0 / MOST), pytest.approx(-2.0 / MOST if math.isfinite(change) else 0.0))


@pytest.mark.parametrize("change", FAR)
def test_weights_that_are_clipped_drop_no_gradient(change: float) -> None:
    value, gradient = of(ClippedWeightLoss(), inputs(change, 2.0))
    assert gradient == -5.0 * 2.0
    assert math.isfinite(value)


@pytest.mark.parametrize(
    ("estimator", "log_ratio", "value", "gradient"),
    [
        ("k3", 120.0, MOST - 1.0 - LIMIT, 1.0 - MOST),  # −(r − 1)
        ("k3", -120.0, LIMIT - 1.0, 1.0),
        ("k3", -math.inf, LIMIT - 1.0, 0.0),
        ("k2", 120.0, LIMIT**2 / 2.0, -LIMIT),  # −log r
        ("k2", -1000.0, LIMIT**2 / 2.0, LIMIT),
    ],
)
def test_the_penalty_to_a_reference_that_is_far_away(estimator: Any, log_ratio: float, value: float, gradient: float) -> None:
    given = inputs(0.0, 0.0, reference=-1.0 + log_ratio)

    def penalty(given: LossInputs) -> LossOutput:
        return with_reference_penalty(LossOutput(0.0 * given.logp_BT), given, 1.0, estimator)

    assert of(penalty, given) == (pytest.approx(value, rel=1e-6), pytest.approx(gradient, rel=1e-6))


def test_within_the_limit_nothing_is_changed_by_a_bit() -> None:
    change = torch.linspace(-19.9, 19.9, 997)
    assert torch.equal(bounded(change), change)
    assert torch.equal(bounded(change).exp(), change.exp())


def test_infinities_of_both_say_nothing_and_what_is_no_number_is_noticed() -> None:
    never = torch.tensor([-math.inf], requires_grad=True)
    difference(never, never.detach()).sum().backward()
    assert never.grad == 0.0
    broken = torch.tensor([math.nan], requires_grad=True)
    value = bounded(difference(broken, torch.zeros(1))).exp()
    value.sum().backward()
    assert value.isnan()
    assert broken.grad is not None
    assert broken.grad.isnan(), "the learner skips such a step and counts it"


def test_a_path_of_gspo_with_one_impossible_token_is_finite() -> None:
    logp_BT = torch.tensor([[-1.0, -math.inf, -1.0], [-1.0, -1.2, -0.9]], requires_grad=True)
    given = LossInputs(logp_BT, torch.full((2, 3), -1.0), torch.full((2, 3), 2.0), torch.ones(2, 3))
    for level in ("sequence", "token"):
        loss = SequenceClipLoss(level=level).__call__(given)  # type: ignore[arg-type]
        loss.loss_BT.sum().backward()
        assert loss.loss_BT.isfinite().all()
        assert logp_BT.grad is not None
        assert logp_BT.grad.isfinite().all()
        assert logp_BT.grad[1].abs().min() > 0, "the other path learns"
        logp_BT.grad = None


def test_a_token_that_does_not_count_may_be_impossible() -> None:
    logp_BT = torch.tensor([[-1.0, -math.inf]], requires_grad=True)
    given = LossInputs(logp_BT, torch.tensor([[-1.0, 0.0]]), torch.full((1, 2), 2.0), torch.tensor([[1.0, 0.0]]))
    for loss in (*(case[0] for case in CASES), ClippedWeightLoss()):
        (loss(given).loss_BT * given.weight_BT).sum().backward()
        assert logp_BT.grad is not None
        assert logp_BT.grad.isfinite().all(), loss
        logp_BT.grad = None


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_importance_and_mismatch_of_an_impossible_token(level: Any) -> None:
    learner, sampler = torch.tensor([[-math.inf, -1.0, 900.0]]), torch.tensor([[-1.0, -1.0, -1.0]])
    counted = torch.tensor([[True, True, False]])
    weights = importance_weights(learner, sampler, counted, level)
    assert weights.tolist() == [[0.0, 1.0, 1.0]] if level == "token" else weights.isfinite().all()
    mismatch = Mismatch(level)
    mismatch.add(learner, sampler, counted)
    found = mismatch.metrics()
    assert found["mismatch_ratio_max"] == 1.0
    assert not any(math.isnan(value) for value in found.values())


def test_policy_kl_is_a_number() -> None:
    assert policy_kl(inputs(-1000.0, 1.0)).isfinite().all()
    assert policy_kl(inputs(1000.0, 1.0)).isfinite().all()


def test_an_entropy_with_tokens_that_are_never_drawn() -> None:
    logits = torch.tensor([[0.0, 1.0, -math.inf, -500.0], [0.0, 0.0, -math.inf, -math.inf]], requires_grad=True)
    entropy = logits.logsumexp(-1) - expected(logits)
    p = 1.0 / (1.0 + math.e)
    wanted = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert entropy.tolist() == pytest.approx([wanted, math.log(2.0)], rel=1e-5)
    entropy.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[:, 2:].abs().max() == 0.0
