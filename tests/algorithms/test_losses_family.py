"""The losses beside the clipped surrogate, by hand: value and gradient on both sides of every bound."""

import math
from functools import partial
from typing import Any

import pytest
import torch

from algorithms.losses import Loss, LossInputs, LossOutput, policy_kl, with_reference_penalty
from algorithms.losses.balanced import BalancedClipLoss
from algorithms.losses.cispo import ClippedWeightLoss
from algorithms.losses.clip import ClipLoss
from algorithms.losses.gspo import SequenceClipLoss
from algorithms.losses.reinforce import ReinforceLoss
from algorithms.losses.value import ValueLoss
from arpo_envs.errors import ConfigError

pytestmark = pytest.mark.numeric

_tensor = partial(torch.tensor, dtype=torch.float64)


def inputs(ratios: list[list[float]], advantages: list[list[float]], weights: list[list[float]] | None = None) -> LossInputs:
    """Old log-probabilities are −1, so that logp = −1 + ln(ratio)."""
    logp = (_tensor(ratios).log() - 1.0).requires_grad_()
    weight = torch.ones_like(logp).detach() if weights is None else _tensor(weights)
    return LossInputs(logp, torch.full_like(logp, -1.0).detach(), _tensor(advantages), weight)


def slope(given: LossInputs, loss: Loss) -> list[list[float]]:
    """The gradient of the summed loss to the log-probabilities."""
    loss(given).loss_BT.sum().backward()
    assert given.logp_BT.grad is not None
    return given.logp_BT.grad.tolist()


LOSSES: list[Any] = [
    ClipLoss(),
    ClipLoss(dual=3.0),
    ReinforceLoss(),
    SequenceClipLoss(),
    SequenceClipLoss(level="token"),
    ClippedWeightLoss(),
    BalancedClipLoss(),
]


@pytest.mark.parametrize("loss", LOSSES)
def test_all_have_the_policy_gradient_where_nothing_has_moved(loss: Loss) -> None:
    given = inputs([[1.0, 1.0], [1.0, 1.0]], [[2.0, 2.0], [-3.0, -3.0]])
    assert slope(given, loss) == [pytest.approx([-2.0, -2.0]), pytest.approx([3.0, 3.0])]


@pytest.mark.parametrize("loss", LOSSES)
def test_metrics_carry_no_gradient_and_nothing_is_reduced(loss: Loss) -> None:
    output = loss(inputs([[1.1, 0.5, 4.0]], [[1.0, -1.0, -1.0]]))
    assert output.loss_BT.shape == (1, 3)
    assert output.loss_BT.requires_grad
    assert all(value.shape == (1, 3) and not value.requires_grad for value in output.metrics.values())
    assert "policy_kl" in output.metrics


# --- dual clip ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (2.0, -1.0, 2.0, 2.0),  # below c the token is pushed back in full
        (4.0, -1.0, 3.0, 0.0),  # above it the loss is c·|A|
        (0.5, -1.0, 0.8, 0.0),
        (4.0, 1.0, -1.2, 0.0),  # good tokens are not its business
    ],
)
def test_dual_clip(ratio: float, advantage: float, loss: float, gradient: float) -> None:
    given = inputs([[ratio]], [[advantage]])
    assert ClipLoss(dual=3.0)(given).loss_BT.item() == pytest.approx(loss)
    assert slope(given, ClipLoss(dual=3.0))[0][0] == pytest.approx(gradient)


# --- REINFORCE ---------------------------------------------------------------------------------------------


def test_reinforce_has_no_ratio_and_no_clip() -> None:
    given = inputs([[5.0, 0.1]], [[2.0, -1.0]])
    assert ReinforceLoss()(given).loss_BT[0].tolist() == pytest.approx([-2 * (math.log(5) - 1), math.log(0.1) - 1])
    assert slope(given, ReinforceLoss())[0] == [-2.0, 1.0]


# --- GSPO --------------------------------------------------------------------------------------------------


def test_gspo_clips_whole_paths_by_the_geometric_mean() -> None:
    # row 0: ratios 4 and 1/4 cancel; row 1: both 1.21, s = 1.21 is beyond 1.1; row 2: one token of two counts
    given = inputs([[4.0, 0.25], [1.21, 1.21], [1.05, 9.0]], [[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]], [[1, 1], [1, 1], [1, 0]])
    loss = SequenceClipLoss(low=0.1, high=0.1)
    output = loss(given)
    assert output.loss_BT[0].tolist() == pytest.approx([-1.0, -1.0])
    assert output.loss_BT[1].tolist() == pytest.approx([-1.1, -1.1])
    assert output.loss_BT[2, 0].item() == pytest.approx(-2.1)
    assert output.metrics["clipped"].tolist() == [[0, 0], [1, 1], [0, 0]]
    found = slope(given, loss)
    assert found[0] == pytest.approx([-1.0, -1.0])  # each token: Σ_t ∂s/∂logp = 2·s/2, though ratios are 4 and 1/4
    assert found[1] == [0.0, 0.0]
    assert found[2][0] == pytest.approx(2 * -2.1)  # the row's two entries share one s; weights come later
    assert found[2][1] == 0.0


def test_gspo_token_has_the_value_and_the_gradient_of_gspo_where_advantages_are_equal() -> None:
    ratios, advantages = [[1.2, 0.9, 1.3]], [[2.0, 2.0, 2.0]]
    sequence, token = SequenceClipLoss(0.3, 0.3), SequenceClipLoss(0.3, 0.3, level="token")
    one, two = inputs(ratios, advantages), inputs(ratios, advantages)
    assert sequence(one).loss_BT.tolist() == [pytest.approx(token(two).loss_BT[0].tolist())]
    assert slope(one, sequence)[0] == pytest.approx(slope(two, token)[0])


def test_gspo_token_lets_tokens_have_their_own_advantages() -> None:
    s = (1.2 * 0.9) ** 0.5
    given = inputs([[1.2, 0.9]], [[2.0, -1.0]])
    token = SequenceClipLoss(0.3, 0.3, level="token")
    assert token(given).loss_BT[0].tolist() == pytest.approx([-2 * s, s])
    assert slope(given, token)[0] == pytest.approx([-2 * s, s])
    other = inputs([[1.2, 0.9]], [[2.0, -1.0]])
    assert slope(other, SequenceClipLoss(0.3, 0.3))[0] == pytest.approx([-s / 2, -s / 2])  # mixed up


def test_gspo_of_a_path_without_tokens_is_finite() -> None:
    output = SequenceClipLoss()(inputs([[1.0, 1.0]], [[1.0, 1.0]], [[0.0, 0.0]]))
    assert torch.isfinite(output.loss_BT).all()


# --- CISPO -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ratio", "weight"), [(1.0, 1.0), (2.0, 2.0), (9.0, 5.0), (0.01, 0.01)])
@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_cispo_bounds_the_weight_and_drops_no_gradient(ratio: float, weight: float, advantage: float) -> None:
    given = inputs([[ratio]], [[advantage]])
    assert ClippedWeightLoss()(given).loss_BT.item() == pytest.approx(-weight * advantage * (math.log(ratio) - 1))
    assert slope(given, ClippedWeightLoss())[0][0] == pytest.approx(-weight * advantage)
    assert ClippedWeightLoss()(given).metrics["clipped"].item() == float(ratio > 5.0)
    assert slope(inputs([[ratio]], [[advantage]]), ClippedWeightLoss(floor=0.5))[0][0] == pytest.approx(
        -max(weight, 0.5) * advantage
    )


# --- AEPO --------------------------------------------------------------------------------------------------

BALANCED = [  # ratio, advantage, gradient: −F·A, F = 1 + high above the bound for good tokens, 0 below for bad ones, else ρ
    (1.1, 2.0, -2.2),
    (1.5, 2.0, -2.4),
    (9.0, 2.0, -2.4),
    (1.5, -2.0, 3.0),
    (0.5, 2.0, -1.0),
    (0.5, -2.0, 0.0),
]


@pytest.mark.parametrize(("ratio", "advantage", "gradient"), BALANCED)
def test_aepo_has_the_value_of_the_clip_and_a_bounded_gradient(ratio: float, advantage: float, gradient: float) -> None:
    given = inputs([[ratio]], [[advantage]])
    assert BalancedClipLoss()(given).loss_BT.item() == pytest.approx(ClipLoss()(given).loss_BT.item())
    assert BalancedClipLoss()(given).metrics["clipped"].item() == ClipLoss()(given).metrics["clipped"].item()
    assert slope(given, BalancedClipLoss())[0][0] == pytest.approx(gradient)


# --- value head --------------------------------------------------------------------------------------------


def valued(value: float, old: float, target: float) -> LossInputs:
    head = _tensor([[value]]).requires_grad_()
    flat = _tensor([[0.0]])
    return LossInputs(
        flat.clone().requires_grad_(),
        flat,
        flat,
        _tensor([[1.0]]),
        value_BT=head,
        old_value_BT=_tensor([[old]]),
        return_BT=_tensor([[target]]),
    )


@pytest.mark.parametrize(
    ("value", "old", "target", "error", "gradient"),
    [
        (0.1, 0.0, 1.0, 0.81, -1.8),  # within range of what it was
        (0.5, 0.0, 1.0, 0.64, 0.0),  # moved far enough towards the target: nothing more to gain
        (-0.5, 0.0, 1.0, 2.25, -3.0),  # moved away: pulled back in full
    ],
)
def test_value_loss(value: float, old: float, target: float, error: float, gradient: float) -> None:
    given = valued(value, old, target)
    output = ValueLoss(coefficient=0.5, range=0.2)(given)
    assert output.loss_BT.item() == pytest.approx(0.5 * error)
    assert output.metrics["value_error"].item() == pytest.approx(error)
    output.loss_BT.sum().backward()
    assert given.value_BT is not None
    assert given.value_BT.grad is not None
    assert given.value_BT.grad.item() == pytest.approx(0.5 * gradient)
    unbounded = ValueLoss(range=None)(valued(value, old, target))
    assert unbounded.loss_BT.item() == pytest.approx(0.5 * (value - target) ** 2)


def test_a_value_loss_without_values_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="'values' in `needs`"):
        ValueLoss()(inputs([[1.0]], [[1.0]]))


def test_shapes_of_values_are_checked_at_the_door() -> None:
    flat = torch.zeros(1, 2)
    for name in ("value_BT", "old_value_BT", "return_BT"):
        with pytest.raises(ValueError, match=r"one shape \[B, T\]"):
            LossInputs(flat, flat, flat, flat, **{name: torch.zeros(1, 3)})


# --- the penalty -------------------------------------------------------------------------------------------


def with_reference(log_ratio: float) -> LossInputs:
    """π_ref/π = exp(log_ratio)."""
    logp = _tensor([[-1.0]]).requires_grad_()
    return LossInputs(logp, logp.detach(), _tensor([[0.0]]), _tensor([[1.0]]), _tensor([[-1.0 + log_ratio]]))


@pytest.mark.parametrize(
    "loss", [ReinforceLoss(0.1), SequenceClipLoss(kl=0.1), ClippedWeightLoss(kl=0.1), BalancedClipLoss(kl=0.1)]
)
def test_every_loss_takes_the_same_penalty(loss: Loss) -> None:
    given = with_reference(math.log(3.0))
    assert loss(given).loss_BT.item() == pytest.approx(0.1 * (3 - 1 - math.log(3.0)))
    assert slope(given, loss)[0][0] == pytest.approx(0.1 * (1 - 3))
    with pytest.raises(ConfigError, match="'reference' in `needs`"):
        loss(inputs([[1.0]], [[1.0]]))


def test_k2_pulls_by_the_log_ratio_itself() -> None:
    given = with_reference(0.5)
    assert ClipLoss(kl=0.1, estimator="k2")(given).loss_BT.item() == pytest.approx(0.1 * 0.125)
    assert slope(given, ClipLoss(kl=0.1, estimator="k2"))[0][0] == pytest.approx(0.1 * -0.5)


def test_k1_is_refused_in_a_loss() -> None:
    given = with_reference(0.5)
    with pytest.raises(ConfigError, match='"k2" or "k3"'):
        with_reference_penalty(LossOutput(given.logp_BT), given, 0.1, "k1")


def test_policy_kl_is_zero_where_nothing_moved() -> None:
    assert policy_kl(inputs([[1.0, 2.0]], [[1.0, 1.0]]))[0].tolist() == pytest.approx([0.0, 2.0 - 1 - math.log(2.0)])


def test_policy_kl_is_on_average_that_of_what_the_old_policy_drew() -> None:
    old, new = _tensor([[0.7, 0.2, 0.1]]), _tensor([[0.4, 0.1, 0.5]])
    given = LossInputs(new.log(), old.log(), torch.ones_like(old), torch.ones_like(old))
    assert (old * policy_kl(given)).sum().item() == pytest.approx((old * (old / new).log()).sum().item())


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClipLoss(dual=1.0),
        lambda: ReinforceLoss(-1.0),
        lambda: SequenceClipLoss(low=0.0),
        lambda: SequenceClipLoss(level="path"),  # type: ignore[arg-type]
        lambda: ClippedWeightLoss(cap=1.0),
        lambda: ClippedWeightLoss(floor=1.0),
        lambda: BalancedClipLoss(high=0.0),
        lambda: ValueLoss(coefficient=0.0),
        lambda: ValueLoss(range=0.0),
    ],
)
def test_numbers_out_of_range(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()
