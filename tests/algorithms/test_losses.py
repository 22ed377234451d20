"""The clipped surrogate, by hand."""

import math
from functools import partial

import pytest
import torch

from algorithms.losses import LossInputs
from algorithms.losses.clip import ClipLoss
from arpo_envs.errors import ConfigError

pytestmark = pytest.mark.numeric

_tensor = partial(torch.tensor, dtype=torch.float64)


def inputs(ratios: list[float], advantages: list[float], references: list[float] | None = None) -> LossInputs:
    """One row; old log-probabilities are -1, so that logp = -1 + ln(ratio)."""
    logp = (_tensor([ratios]).log() - 1.0).requires_grad_()
    reference = None if references is None else _tensor([references])
    return LossInputs(
        logp, torch.full_like(logp, -1.0).detach(), _tensor([advantages]), _tensor([[1.0] * len(ratios)]), reference
    )


def gradient(given: LossInputs, loss: ClipLoss) -> list[float]:
    loss(given).loss_BT.sum().backward()
    assert given.logp_BT.grad is not None
    return given.logp_BT.grad[0].tolist()


CASES = [  # ratio, advantage, loss, gradient to logp: −ρA where the unclipped term is the minimum, else 0
    (1.0, 2.0, -2.0, -2.0),
    (1.0, -2.0, 2.0, 2.0),
    (1.1, 2.0, -2.2, -2.2),
    (1.5, 2.0, -2.4, 0.0),  # good and already likelier by more than ε: nothing to gain
    (1.5, -2.0, 3.0, 3.0),  # bad and likelier: pushed back in full
    (0.5, 2.0, -1.0, -1.0),  # good and less likely: pulled back in full
    (0.5, -2.0, 1.6, 0.0),  # bad and already less likely
    (1.5, 0.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("ratio", "advantage", "loss", "slope"), CASES)
def test_golden_values_on_both_sides_of_the_clip(ratio: float, advantage: float, loss: float, slope: float) -> None:
    given = inputs([ratio], [advantage])
    assert ClipLoss()(given).loss_BT.item() == pytest.approx(loss)
    assert gradient(given, ClipLoss())[0] == pytest.approx(slope)


def test_high_and_low_clip_apart() -> None:
    loss = ClipLoss(low=0.1, high=0.3)
    out = loss(inputs([1.25, 1.5, 0.95, 0.5], [1.0, 1.0, -1.0, -1.0]))
    assert out.loss_BT[0].tolist() == pytest.approx([-1.25, -1.3, 0.95, 0.9])
    assert out.metrics["clipped"][0].tolist() == [0.0, 1.0, 0.0, 1.0]


def test_policy_kl_is_k3_of_the_old_policy() -> None:
    out = ClipLoss()(inputs([2.0, 1.0], [1.0, 1.0]))
    assert out.metrics["policy_kl"][0].tolist() == pytest.approx([2.0 - 1 - math.log(2.0), 0.0])


def test_reference_penalty_is_k3_with_its_gradient() -> None:
    given = inputs([1.0], [0.0], [-1.0 + math.log(3.0)])  # π_ref/π = 3
    out = ClipLoss(kl=0.1)(given)
    assert out.loss_BT.item() == pytest.approx(0.1 * (3 - 1 - math.log(3.0)))
    assert out.metrics["reference_kl"].item() == pytest.approx(3 - 1 - math.log(3.0))
    assert gradient(given, ClipLoss(kl=0.1))[0] == pytest.approx(0.1 * (1 - 3))
    same = inputs([1.0], [0.0], [-1.0])
    assert gradient(same, ClipLoss(kl=0.1)) == [0.0]


def test_without_a_penalty_the_reference_is_never_looked_at() -> None:
    poisoned = inputs([1.2], [1.0], [float("nan")])
    out = ClipLoss(kl=0.0)(poisoned)
    assert torch.isfinite(out.loss_BT).all()
    assert "reference_kl" not in out.metrics
    assert out.loss_BT.item() == ClipLoss()(inputs([1.2], [1.0])).loss_BT.item()


def test_a_penalty_without_reference_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="'reference' in `needs`"):
        ClipLoss(kl=0.1)(inputs([1.0], [1.0]))


def test_metrics_carry_no_gradient() -> None:
    out = ClipLoss(kl=0.1)(inputs([1.1], [1.0], [-1.0]))
    assert out.loss_BT.requires_grad
    assert not any(value.requires_grad for value in out.metrics.values())


@pytest.mark.parametrize("wrong", [torch.zeros(1, 3), torch.zeros(2), torch.zeros(2, 2)])
def test_shapes_are_checked_at_the_door(wrong: torch.Tensor) -> None:
    right = torch.zeros(1, 2)
    for place in range(4):
        parts = [right] * 4
        parts[place] = wrong
        with pytest.raises(ValueError, match=r"one shape \[B, T\]"):
            LossInputs(*parts)
    with pytest.raises(ValueError, match="one shape"):
        LossInputs(right, right, right, right, wrong)
    with pytest.raises(ValueError, match="one shape"):
        LossInputs(*[torch.zeros(2)] * 4)


@pytest.mark.parametrize("numbers", [{"low": 0.0}, {"low": 1.0}, {"high": 0.0}, {"kl": -0.1}, {"kl": float("inf")}])
def test_numbers_out_of_range(numbers: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="at least 0 and finite" if "kl" in numbers else "Need 0 < low"):
        ClipLoss(**numbers)
