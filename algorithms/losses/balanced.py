"""AEPO's clip: a good token beyond the upper bound keeps a bounded gradient instead of none."""

from dataclasses import dataclass

from . import LossInputs, LossOutput, bounded, difference, with_reference_penalty
from .clip import require_clip, surrogate


@dataclass(frozen=True)
class BalancedClipLoss:
    """−min(ρ A, clip(ρ, 1 − low, (1 + high)/sg[ρ] · ρ) A), per token: the value of `ClipLoss`, but another gradient.

    Where ρ > 1 + high and A > 0 the gradient is (1 + high) A ∇log π; elsewhere it is that of `ClipLoss`.

    Args:
        low: ε of the lower clip bound, 1 − ε.
        high: ε of the upper clip bound, 1 + ε.
        kl: coefficient of a KL penalty to the reference.

    Raises:
        ConfigError: a number is out of range.

    Source: AEPO (arXiv 2510.14545), entropy-balanced policy optimisation with stop-gradient clipping.
    """

    low: float = 0.2
    high: float = 0.2
    kl: float = 0.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        require_clip(self.low, self.high, self.kl)

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """Returns the loss of every token."""
        ratio_BT = bounded(difference(inputs.logp_BT, inputs.old_logp_BT)).exp()
        upper_BT = (1.0 + self.high) * difference(inputs.logp_BT, inputs.logp_BT.detach()).exp()  # ρ/sg[ρ], safe for any ρ
        bounded_BT = upper_BT.where(ratio_BT > 1.0 + self.high, ratio_BT.clamp(min=1.0 - self.low))
        return with_reference_penalty(surrogate(inputs, ratio_BT, bounded_BT), inputs, self.kl)
