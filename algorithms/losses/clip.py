"""The clipped surrogate of PPO, with an optional KL penalty to a frozen reference."""

from dataclasses import dataclass

import torch

from arpo_envs import ConfigError

from . import LossInputs, LossOutput


@dataclass(frozen=True)
class ClipLoss:
    """−min(ρ A, clip(ρ, 1 − low, 1 + high) A) + kl · k3, per token.

    Args:
        low: ε below 1.
        high: ε above 1; larger than `low` is DAPO's clip-higher.
        kl: coefficient of the penalty; at 0 no reference model is ever run.

    Raises:
        ConfigError: a number is out of range.

    Source: PPO (arXiv 1707.06347), Eq. 7; k3 = π_ref/π − 1 − log(π_ref/π), GRPO (arXiv 2402.03300), Eq. 4.
    """

    low: float = 0.2
    high: float = 0.2
    kl: float = 0.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if not 0.0 < self.low < 1.0 or self.high <= 0.0 or self.kl < 0.0:
            raise ConfigError(f"Need 0 < low < 1, high > 0 and kl >= 0; got {self.low}, {self.high}, {self.kl}.")

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """Returns the loss of every token."""
        ratio_BT = (inputs.logp_BT - inputs.old_logp_BT).exp()
        clipped_BT = ratio_BT.clamp(1.0 - self.low, 1.0 + self.high)
        surrogate_BT = torch.minimum(ratio_BT * inputs.advantage_BT, clipped_BT * inputs.advantage_BT)
        loss_BT = -surrogate_BT
        change_BT = inputs.old_logp_BT - inputs.logp_BT.detach()
        metrics = {
            "clipped": (surrogate_BT.detach() != ratio_BT.detach() * inputs.advantage_BT).float(),
            "policy_kl": change_BT.exp() - 1.0 - change_BT,
        }
        if self.kl > 0.0:
            if inputs.reference_logp_BT is None:
                raise ConfigError(
                    "A KL penalty needs reference log-probabilities: the algorithm must list 'reference' in `needs`."
                )
            log_ratio_BT = inputs.reference_logp_BT - inputs.logp_BT
            penalty_BT = log_ratio_BT.exp() - 1.0 - log_ratio_BT
            loss_BT = loss_BT + self.kl * penalty_BT
            metrics["reference_kl"] = penalty_BT.detach()
        return LossOutput(loss_BT, metrics)
