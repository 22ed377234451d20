"""Policy and value head in one loss: PPO."""

from dataclasses import dataclass

from arpo_envs import ConfigError

from . import LossInputs, LossOutput
from .clip import ClipLoss


@dataclass(frozen=True)
class ValueLoss:
    """The policy's loss plus coefficient · max((V − R)², (clip(V, V_old ± range) − R)²), per token.

    Args:
        policy: the clipped surrogate.
        coefficient: of the value head's error.
        range: how far V may move from V_old, in units of reward, until moving further gains nothing; None for no limit.

    Raises:
        ConfigError: a number is out of range, or the inputs hold no values.

    Source: PPO (arXiv 1707.06347), Eq. 9; the clipped error is that of the authors' code.
    """

    policy: ClipLoss = ClipLoss()
    coefficient: float = 0.5
    range: float | None = 0.2

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.coefficient <= 0.0 or (self.range is not None and self.range <= 0.0):
            raise ConfigError(f"Need coefficient > 0 and range > 0 (or None); got {self.coefficient} and {self.range}.")

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """Returns the loss of every token."""
        value_BT, old_BT, return_BT = inputs.value_BT, inputs.old_value_BT, inputs.return_BT
        if value_BT is None or old_BT is None or return_BT is None:
            raise ConfigError("A value loss needs a value head: the algorithm must list 'values' in `needs`.")
        output = self.policy(inputs)
        error_BT = (value_BT - return_BT).square()
        if self.range is not None:
            moved_BT = old_BT + (value_BT - old_BT).clamp(-self.range, self.range)
            error_BT = error_BT.maximum((moved_BT - return_BT).square())
        metrics = {**output.metrics, "value_error": error_BT.detach()}
        return LossOutput(output.loss_BT + self.coefficient * error_BT, metrics)
