"""Clipped importance weights: the weight is bounded, no token's gradient is dropped."""

from dataclasses import dataclass

from arpo_envs import ConfigError

from . import LossInputs, LossOutput, bounded, difference, policy_kl, require_kl, with_reference_penalty


@dataclass(frozen=True)
class ClippedWeightLoss:
    """−sg[clip(ρ, floor, cap)] A log π, per token.

    Args:
        cap: largest weight, 1 + ε_high.
        floor: smallest weight, 1 − ε_low; 0 for no bound, as published.
        kl: coefficient of a KL penalty to the reference.

    Raises:
        ConfigError: a number is out of range.

    Source: CISPO, in MiniMax-M1 (arXiv 2506.13585), Eq. 4 and 5.
    """

    cap: float = 5.0
    floor: float = 0.0
    kl: float = 0.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        require_kl(self.kl)
        if not 0.0 <= self.floor < 1.0 < self.cap:
            raise ConfigError(f"Need 0 <= floor < 1 < cap; got {self.floor} and {self.cap}.")

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """Returns the loss of every token."""
        ratio_BT = bounded(difference(inputs.logp_BT.detach(), inputs.old_logp_BT)).exp()
        weight_BT = ratio_BT.clamp(self.floor, self.cap)
        metrics = {"clipped": (weight_BT != ratio_BT).float(), "policy_kl": policy_kl(inputs)}
        output = LossOutput(-weight_BT * inputs.advantage_BT * inputs.logp_BT, metrics)
        return with_reference_penalty(output, inputs, self.kl)
