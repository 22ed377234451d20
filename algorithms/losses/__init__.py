"""Losses: pure functions on tensors, unreduced, one per file; they know nothing of trees.

To add one, write a callable `(LossInputs) -> LossOutput` in a file here and name it in a recipe.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # an algorithm can be described, and trees collected, without torch
    import torch


@dataclass(frozen=True)
class LossInputs:
    """Leaf views of a batch: row b is a path, column t one of its tokens.

    Args:
        logp_BT: log-probability under the weights being trained, nats; carries the gradient.
        old_logp_BT: under the policy that the ratio is to, nats: the learner when the update began, or the sampler.
        advantage_BT: from the estimator.
        weight_BT: from the estimator; 0 where a token does not count.
        reference_logp_BT: under the frozen reference model, nats; None if the algorithm does not need it.
    """

    logp_BT: "torch.Tensor"
    old_logp_BT: "torch.Tensor"
    advantage_BT: "torch.Tensor"
    weight_BT: "torch.Tensor"
    reference_logp_BT: "torch.Tensor | None" = None

    def __post_init__(self) -> None:
        """Checks the shapes at the door."""
        shape = self.logp_BT.shape
        others = [self.old_logp_BT, self.advantage_BT, self.weight_BT]
        if self.reference_logp_BT is not None:
            others.append(self.reference_logp_BT)
        if len(shape) != 2 or any(other.shape != shape for other in others):
            raise ValueError(
                f"All inputs must share one shape [B, T]; got {[tuple(o.shape) for o in (self.logp_BT, *others)]}."
            )


@dataclass(frozen=True)
class LossOutput:
    """An unreduced loss, and per-token quantities worth logging.

    Args:
        loss_BT: to be minimised; the learner weighs, adds up and divides.
        metrics: each [B, T]; the learner logs the weighted mean.
    """

    loss_BT: "torch.Tensor"
    metrics: "Mapping[str, torch.Tensor]" = field(default_factory=dict)


Loss = Callable[[LossInputs], LossOutput]
