"""Sequence-level ratios: a path is clipped as a whole, by the geometric mean of its tokens' ratios."""

from dataclasses import dataclass
from typing import Literal

from arpo_envs import ConfigError

from . import LossInputs, LossOutput, bounded, difference, with_reference_penalty
from .clip import require_clip, surrogate


@dataclass(frozen=True)
class SequenceClipLoss:
    """−min(s A, clip(s, 1 − low, 1 + high) A) with s = exp(mean_t log ρ_t), the mean over a path's tokens that count.

    Args:
        low: ε of the lower clip bound, 1 − ε; s is close to 1, so it is a thousand times smaller than a token's.
        high: ε of the upper clip bound, 1 + ε.
        kl: coefficient of a KL penalty to the reference.
        level: "sequence"; or "token", GSPO-token: s_t = sg[s] · π_t/sg[π_t], of equal value, so that tokens may have
            advantages of their own.

    Raises:
        ConfigError: a number is out of range, or the level is unknown.

    Source: GSPO (arXiv 2507.18071), Eq. 5 to 7; GSPO-token, Eq. 13 and 14. A path's tokens are those that the policy
    sampled, over all its actions.
    """

    low: float = 3e-4
    high: float = 4e-4
    kl: float = 0.0
    level: Literal["sequence", "token"] = "sequence"

    def __post_init__(self) -> None:
        """Checks the values."""
        require_clip(self.low, self.high, self.kl)
        if self.level not in ("sequence", "token"):
            raise ConfigError(f'level is "sequence" or "token", got {self.level!r}.')

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """Returns the loss of every token."""
        counted_BT = (inputs.weight_BT > 0.0).to(inputs.logp_BT.dtype)
        log_ratio_BT = difference(inputs.logp_BT, inputs.old_logp_BT).where(counted_BT > 0.0, 0.0)
        ratio_B1 = bounded(log_ratio_BT.sum(1, keepdim=True) / counted_BT.sum(1, keepdim=True).clamp(min=1.0)).exp()
        ratio_BT = ratio_B1.expand_as(log_ratio_BT)
        if self.level == "token":
            ratio_BT = ratio_B1.detach() * difference(inputs.logp_BT, inputs.logp_BT.detach()).exp()
        output = surrogate(inputs, ratio_BT, ratio_BT.clamp(1.0 - self.low, 1.0 + self.high))
        return with_reference_penalty(output, inputs, self.kl)
