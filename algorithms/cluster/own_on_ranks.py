"""The model itself, where it lies on ranks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..models.own import OwnModel


class OwnOnRanks(OwnModel):
    """Asks the model on its ranks; see `OwnModel`.

    Args:
        ask: has all ranks do something: (method, *arguments) -> what the first one returns.
    """

    def __init__(self, ask: Callable[..., Any]) -> None:
        super().__init__(None)
        self._ask = ask
        self.is_changed = False
        """Whether ranks that are made anew have to be given other weights, too; see `changed`."""

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self._ask("own", "config")

    @property
    def dtype(self) -> Any:
        """The model's precision."""
        return self._ask("own", "dtype")

    @property
    def device(self) -> Any:
        """Where the model computes."""
        return self._ask("own", "device")

    def affordable(self, passes: float) -> int:
        """Returns how many tokens this many forward passes of a comparison may have."""
        return int(self._ask("own", "affordable", passes))

    def logprobs(self, tokens: Sequence[int], places: Sequence[int], temperature: float) -> list[float]:
        """Returns log-probabilities of tokens of a text."""
        found: list[float] = self._ask("own", "logprobs", tuple(tokens), tuple(places), temperature)
        return found

    def rounding(self, tokens: Sequence[int], places: Sequence[int], eps: float, temperature: float) -> float:
        """Returns how far a rounding moves them."""
        return float(self._ask("own", "rounding", tuple(tokens), tuple(places), eps, temperature))

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Gives the model other weights for as long as the context lasts."""
        self._ask("change")
        self.is_changed = True
        try:
            yield
        finally:
            self.is_changed = False
            self._ask("restore")
