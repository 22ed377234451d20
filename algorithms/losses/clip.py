"""The clipped surrogate of PPO, with an optional KL penalty to a frozen reference."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from arpo_envs import ConfigError

from . import KLEstimator, LossInputs, LossOutput, bounded, difference, policy_kl, require_kl, with_reference_penalty

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ClipLoss:
    """−min(ρ A, clip(ρ, 1 − low, 1 + high) A) + kl · KL, per token.

    Args:
        low: ε of the lower clip bound, 1 − ε.
        high: ε of the upper clip bound, 1 + ε; larger than `low` is DAPO's clip-higher.
        kl: coefficient of the penalty; at 0 no reference model is ever run.
        dual: c; a bad token's loss is at most c·|A|, however much likelier the token has become. None for no limit.
        estimator: of the penalty, see `KLEstimator`.

    Raises:
        ConfigError: a number is out of range.

    Source: PPO (arXiv 1707.06347), Eq. 7; k3 = π_ref/π − 1 − log(π_ref/π), GRPO (arXiv 2402.03300), Eq. 4; dual clip,
    arXiv 1912.09729, Eq. 5.
    """

    low: float = 0.2
    high: float = 0.2
    kl: float = 0.0
    dual: float | None = None
    estimator: KLEstimator = "k3"

    def __post_init__(self) -> None:
        """Checks the numbers."""
        require_clip(self.low, self.high, self.kl)
        if self.dual is not None and self.dual <= 1.0:
            raise ConfigError(f"dual must be above 1, or tokens of an unchanged policy would be cut; got {self.dual}.")

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """Returns the loss of every token."""
        ratio_BT = bounded(difference(inputs.logp_BT, inputs.old_logp_BT)).exp()
        output = surrogate(inputs, ratio_BT, ratio_BT.clamp(1.0 - self.low, 1.0 + self.high), self.dual)
        return with_reference_penalty(output, inputs, self.kl, self.estimator)


def surrogate(
    inputs: LossInputs, ratio_BT: "torch.Tensor", clipped_ratio_BT: "torch.Tensor", dual: float | None = None
) -> LossOutput:
    """Returns −min(ρ A, clip(ρ) A) per token, with the share of tokens that are clipped.

    Args:
        inputs: of the loss; its advantages count.
        ratio_BT: ρ, [B, T].
        clipped_ratio_BT: clip(ρ), [B, T].
        dual: c; where A < 0 the loss is at most c·|A|. None for no limit.
    """
    unclipped_BT = ratio_BT * inputs.advantage_BT
    surrogate_BT = unclipped_BT.minimum(clipped_ratio_BT * inputs.advantage_BT)
    if dual is not None:
        floor_BT = dual * inputs.advantage_BT
        surrogate_BT = surrogate_BT.maximum(floor_BT).where(inputs.advantage_BT < 0.0, surrogate_BT)
    clipped_BT = (surrogate_BT.detach() != unclipped_BT.detach()).float()
    return LossOutput(-surrogate_BT, {"clipped": clipped_BT, "policy_kl": policy_kl(inputs)})


def require_clip(low: float, high: float, kl: float) -> None:
    """Refuses an invalid clip range.

    Raises:
        ConfigError: a number is out of range.
    """
    require_kl(kl)
    if not (0.0 < low < 1.0 and high > 0.0):
        raise ConfigError(f"Need 0 < low < 1 and high > 0; got {low} and {high}.")
