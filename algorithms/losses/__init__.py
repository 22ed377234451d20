"""Losses: pure functions on tensors, unreduced, one per file; they know nothing of trees.

To add one, write a callable `(LossInputs) -> LossOutput` in a file here and name it in a recipe. The files here use methods
of tensors only, so that algorithms can be made and listed where torch is not installed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from arpo_envs import ConfigError, members

if TYPE_CHECKING:  # an algorithm can be described, and trees collected, without torch
    import torch


@dataclass(frozen=True)
class LossInputs:
    """Leaf views of a batch: row b is a path, column t one of its tokens.

    Args:
        logp_BT: log-probability under the weights being trained, nats; carries the gradient.
        old_logp_BT: under the old policy of the ratio, nats: the learner when the update began, or the sampler.
        advantage_BT: from the estimator.
        weight_BT: from the estimator; 0 where a token does not count.
        reference_logp_BT: under the frozen reference model, nats; None if the algorithm does not need it.
        value_BT: the return that the value head expects before each token, units of reward; carries the gradient. None,
            like the next two, if the algorithm has no value head.
        old_value_BT: the same when the update began.
        return_BT: from the estimator, the value head's targets.
    """

    logp_BT: "torch.Tensor"
    old_logp_BT: "torch.Tensor"
    advantage_BT: "torch.Tensor"
    weight_BT: "torch.Tensor"
    reference_logp_BT: "torch.Tensor | None" = None
    value_BT: "torch.Tensor | None" = None
    old_value_BT: "torch.Tensor | None" = None
    return_BT: "torch.Tensor | None" = None

    def __post_init__(self) -> None:
        """Checks the shapes at the door."""
        shape = self.logp_BT.shape
        optional = [self.reference_logp_BT, self.value_BT, self.old_value_BT, self.return_BT]
        others = [self.old_logp_BT, self.advantage_BT, self.weight_BT, *(one for one in optional if one is not None)]
        if len(shape) != 2 or any(other.shape != shape for other in others):
            raise ValueError(
                f"All inputs must share one shape [B, T]; got {[tuple(o.shape) for o in (self.logp_BT, *others)]}."
            )


@dataclass(frozen=True)
class LossOutput:
    """An unreduced loss, and per-token quantities worth logging.

    Args:
        loss_BT: to be minimised; the learner weights, sums and divides it.
        metrics: each [B, T]; the learner logs the weighted mean over the tokens it computed, whatever the aggregation.
    """

    loss_BT: "torch.Tensor"
    metrics: "Mapping[str, torch.Tensor]" = field(default_factory=dict)


Loss = Callable[[LossInputs], LossOutput]

ON_POLICY: members.Member[bool] = members.Member("on_policy", False)
"""Whether a loss is right only for tokens drawn with the very weights it trains, so for one optimizer step on each batch."""

LIMIT = 20.0
"""Nats from 0 beyond which the size of a log-ratio no longer matters; e^20 is half a billion. As in verl."""


def difference(new: "torch.Tensor", old: "torch.Tensor") -> "torch.Tensor":
    """Returns log π/π', nats, of any shape; 0 and without gradient where both are infinite, which tells nothing."""
    return (new - old).where(~(new.isinf() & old.isinf()), 0.0)


def bounded(log_ratio: "torch.Tensor") -> "torch.Tensor":
    """Returns log-ratios within ±LIMIT, so that their exponentials and products are numbers.

    The gradient is that of the log-ratio itself: whether a token has one is for the clip to decide, not for this bound.
    An infinite log-ratio has none. NaN stays NaN, so that a model that computes it is noticed.

    Args:
        log_ratio: log π/π', nats, of any shape.

    >>> import torch
    >>> change = torch.tensor([0.5, 120.0, -torch.inf], requires_grad=True)
    >>> bounded(change).tolist()
    [0.5, 20.0, -20.0]
    >>> bounded(change).sum().backward()
    >>> change.grad.tolist()
    [1.0, 1.0, 0.0]
    """
    passing = log_ratio.where(~log_ratio.isinf(), 0.0)
    return log_ratio.detach().clamp(-LIMIT, LIMIT) + (passing - passing.detach())


def policy_kl(inputs: LossInputs) -> "torch.Tensor":
    """Returns KL(π_old ‖ π), [B, T], nats, without gradient: how far the update has gone.

    It is k3 with r = π/π_old: the tokens are samples of the old policy.
    """
    change_BT = bounded(difference(inputs.logp_BT.detach(), inputs.old_logp_BT))
    return change_BT.exp() - 1.0 - change_BT


KLEstimator = Literal["k1", "k2", "k3"]
"""Estimates of KL(π ‖ π_ref) from one sample, with r = π_ref/π: −log r, (log r)²/2, or r − 1 − log r."""


def with_reference_penalty(
    output: LossOutput, inputs: LossInputs, coefficient: float, estimator: KLEstimator = "k3"
) -> LossOutput:
    """Returns a loss with coefficient · KL to the reference added per token; at 0 the reference is never read.

    Args:
        output: of the loss itself.
        inputs: with reference log-probabilities.
        coefficient: at least 0.
        estimator: "k3", as in GRPO; "k2", whose gradient is that of the KL itself on the policy's own samples. The
            gradient of "k1" is 0 on average, so it belongs in the reward and is refused here.

    Raises:
        ConfigError: a penalty is asked for, but there is no reference, or the estimator does not penalise.

    Source: J. Schulman, "Approximating KL divergence" (2020); k3 in GRPO (arXiv 2402.03300), Eq. 4; k2 in REINFORCE++
    (arXiv 2501.03262).
    """
    if coefficient <= 0.0:
        return output
    if inputs.reference_logp_BT is None:
        raise ConfigError("A KL penalty needs reference log-probabilities: the algorithm must list 'reference' in `needs`.")
    log_ratio_BT = bounded(difference(inputs.reference_logp_BT, inputs.logp_BT))
    if estimator == "k3":
        penalty_BT = log_ratio_BT.exp() - 1.0 - log_ratio_BT
    elif estimator == "k2":
        penalty_BT = log_ratio_BT.square() / 2.0
    else:
        raise ConfigError(f'The penalty of a loss must be estimated by "k2" or "k3", got {estimator!r}.')
    return LossOutput(output.loss_BT + coefficient * penalty_BT, {**output.metrics, "reference_kl": penalty_BT.detach()})


def require_kl(coefficient: float) -> None:
    """Refuses an invalid coefficient of a KL penalty.

    Args:
        coefficient: to check; 0 for no penalty.

    Raises:
        ConfigError: it is negative or not finite.

    >>> require_kl(-0.1)
    Traceback (most recent call last):
    arpo_envs.errors.ConfigError: kl is the coefficient of a penalty, at least 0 and finite; got -0.1.
    """
    if not 0.0 <= coefficient < math.inf:
        raise ConfigError(f"kl is the coefficient of a penalty, at least 0 and finite; got {coefficient}.")
