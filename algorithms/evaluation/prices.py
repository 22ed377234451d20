"""What answers cost in money, at the prices of whoever serves the model and the tools."""

from collections.abc import Sequence
from dataclasses import dataclass

from arpo_envs import ConfigError

from .attempts import Attempt


@dataclass(frozen=True)
class Prices:
    """Prices, in any one currency.

    Args:
        read: of a million tokens that the policy reads: the whole context, for each action anew.
        sampled: of a million tokens that it samples.
        call: of one tool call.

    Raises:
        ConfigError: a price is negative.
    """

    read: float = 0.0
    sampled: float = 0.0
    call: float = 0.0

    def __post_init__(self) -> None:
        """Checks the prices."""
        for name in ("read", "sampled", "call"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"The price {name} must be a number, at least 0, got {getattr(self, name)}.")

    def of(self, attempts: Sequence[Attempt]) -> float:
        """Returns what all answers cost together; those that failed cost, too.

        Raises:
            ConfigError: reading has a price, and an answer does not say how much was read.
        """
        if self.read and any(one.read_tokens is None for one in attempts):
            raise ConfigError("These answers were written before read tokens were counted: leave out the price for reading.")
        read, sampled = sum(one.read_tokens or 0 for one in attempts), sum(one.tokens for one in attempts)
        return (self.read * read + self.sampled * sampled) / 1e6 + self.call * sum(one.tool_calls for one in attempts)
