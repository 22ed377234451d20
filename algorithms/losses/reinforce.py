"""REINFORCE: the score function times the advantage; no ratio, no clip."""

from dataclasses import dataclass
from typing import ClassVar

from . import LossInputs, LossOutput, policy_kl, require_kl, with_reference_penalty


@dataclass(frozen=True)
class ReinforceLoss:
    """−A log π + kl · KL, per token; correct only where every batch is used for a single step.

    Args:
        kl: coefficient of a KL penalty to the reference.

    Raises:
        ConfigError: the coefficient is negative.

    Source: Williams (1992); for language models, arXiv 2402.14740, section 3.
    """

    kl: float = 0.0
    on_policy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Checks the number."""
        require_kl(self.kl)

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """Returns the loss of every token."""
        output = LossOutput(-inputs.advantage_BT * inputs.logp_BT, {"policy_kl": policy_kl(inputs)})
        return with_reference_penalty(output, inputs, self.kl)
