"""How a learner moves: the learning rate over time, and what happens when gradients are not finite."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from arpo_envs import ArpoError, ConfigError

if TYPE_CHECKING:
    import torch


class Diverged(ArpoError):
    """Several gradients in a row were not finite; the weights are those of the last good step."""


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the optimizer steps of a run, as a factor; those that teach nothing count as well.

    Raises:
        ConfigError: a number is out of range, or nothing is left of a decay.

    >>> [round(Schedule(warmup=2, decay="linear", steps=6)(step), 2) for step in range(8)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    warmup: int = 0
    """Optimizer steps over which the learning rate rises."""
    decay: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls after the warm-up; linear and cosine end at 0."""
    steps: int | None = None
    """Optimizer steps of the whole run; a decay needs them before it begins, otherwise they are ignored."""
    floor: float = 0.0
    """Factor at the end of a decay, instead of 0."""

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.decay not in ("constant", "linear", "cosine"):
            raise ConfigError(f'decay must be "constant", "linear" or "cosine", got {self.decay!r}.')
        if self.warmup < 0 or not 0.0 <= self.floor <= 1.0:
            raise ConfigError(f"warmup must not be negative, and floor must lie in [0, 1]; got {self.warmup} and {self.floor}.")
        if self.steps is not None:
            self.require_end()

    def require_end(self) -> None:
        """Finds out whether a decay ends, and after the warm-up.

        Raises:
            ConfigError: it does not.
        """
        if self.decay != "constant" and (self.steps is None or self.steps <= self.warmup):
            raise ConfigError(
                f"A {self.decay} decay needs more optimizer steps than the warm-up of {self.warmup}; got {self.steps}."
            )

    def __call__(self, step: int) -> float:
        """Returns the factor for optimizer step number `step`, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.decay == "constant" or self.steps is None:
            return 1.0
        progress = min(1.0, (step - self.warmup) / (self.steps - self.warmup))
        falling = 1.0 - progress if self.decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
        return self.floor + (1.0 - self.floor) * falling


def set_rate(optimizer: "torch.optim.Optimizer", rate: float) -> None:
    """Sets the learning rate of all that an optimizer moves."""
    for group in optimizer.param_groups:
        group["lr"] = rate
