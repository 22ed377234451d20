"""Looks whether engine and learner agree: before a run, and while it trains (`--verify-every`)."""

from collections.abc import Awaitable, Callable

from rich.markup import escape

from ..cluster import LostForGood
from ..models.agreement import Agreement, WeightProbe
from ..policies.served import ServerFault
from ..rollout import reason
from .progress import Progress

_ATTEMPTS = 3


async def checked(check: Callable[[], Awaitable[Agreement]], progress: Progress) -> None:
    """Compares engine and learner before a run, anew where an engine is lost meanwhile, and reports the outcome.

    Args:
        check: gives the engine its weights, and compares; see `require_agreement`.
        progress: where the outcome is reported.

    Raises:
        ConfigError: they do not agree.
        ServerFault: an engine was lost each time, or the learner for good.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            progress.note(f"checked: {await check()}")
            return
        except ServerFault as error:
            if attempt == _ATTEMPTS or isinstance(error, LostForGood):
                raise
            progress.note(f"[yellow]checked again, as an engine was lost:[/] {escape(reason(error))}")


class Verification:
    """Verifies the first update, and then one every few steps; where it cannot tell yet, also the next.

    Args:
        probe: compares the engine with the learner.
        every: steps between; 0 for never.
        progress: where the first outcome is reported.
    """

    def __init__(self, probe: WeightProbe, every: int, progress: Progress) -> None:
        self._probe, self._every, self._progress = probe, every, progress
        self._open = True
        """Whether the last update that was looked at was too small to tell, or there was none."""
        self._noted: set[str] = set()

    async def begin(self) -> None:
        """Prepares for the first update, while engine and learner are known to agree."""
        if self._every:
            await self._probe.begin()

    async def due(self, step: int) -> None:
        """Verifies the update that a step has ended with, if it is time to.

        Args:
            step: how many the weights have taken.

        Raises:
            WeightsDiffer: the weights did not arrive; the message says what differs.
        """
        if not self._every or (not self._open and step % self._every):
            return
        found = await self._probe.require()
        self._open = not found or not all(one.known for one in found)
        if found:
            worst = max(found, key=lambda one: one.nats)
            outcome = "the update is too small to tell whether it arrived" if self._open else "the new weights arrived"
            self._note(step, outcome, f"{worst.nats:.1g} nats (rounding explains {worst.allowed:.1g})")

    def _note(self, step: int, outcome: str, within: str) -> None:
        """Reports each outcome once."""
        if outcome not in self._noted:
            self._noted.add(outcome)
            self._progress.note(f"after step {step}: {outcome}; engine and learner agree within {within}")
