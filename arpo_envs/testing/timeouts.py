"""Whether calls return within their timeout: the usual one, and a shorter one where they take long enough to tell."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .laws import Law
from .report import Finding
from .turns import Turns

TELLING = 0.6
"""Seconds that a call must take for a shorter timeout to have an effect."""
_GRACE = 0.2
"""Seconds by which a call may be late: a process is killed, an answer travels. A late call is retried before it is blamed."""
_LOST = 1.0
"""Seconds after its timeout at which a call is no longer waited for."""
_TRIES = 3
_SHORTER = 4
_SLOWEST = 3
_HINT = (
    "Bound whatever may take long by `timeout` (a socket's timeout, a process that is killed), and return a ToolResult with "
    "error='timeout'. A thread cannot be stopped; what would run on by itself belongs in a process."
)


@dataclass(frozen=True)
class Timed:
    """One call of a sequence.

    Args:
        name: for findings.
        make: makes it with this many seconds, and says whether they limited it.
    """

    name: str
    make: Callable[[float], bool]


Begin = Callable[[], tuple[Sequence[Timed], Callable[[], object]]]
"""Starts its own session; returns the calls to make in it, in order, and a function that closes it."""


def overruns(begin: Begin, usual: float) -> tuple[list[Finding], bool]:
    """Returns what is wrong with the first call that does not return in time, and whether any call took long enough to tell.

    Args:
        begin: see `Begin`.
        usual: seconds that every call may take.
    """
    names, took = _took(begin, usual)
    findings: list[Finding] = []
    for number, seconds in enumerate(took):
        if not findings and seconds > usual + _GRACE:
            findings += _late(begin, usual, number, usual, names[number], seconds)
    telling = [number for number, seconds in enumerate(took) if seconds >= min(TELLING, usual / 2)]
    for number in sorted(telling, key=lambda number: -took[number])[:_SLOWEST]:
        if not findings:
            limit = took[number] / _SHORTER
            findings += _late(begin, usual, number, limit, names[number], _took(begin, usual, number, limit)[1][number])
    return findings, bool(telling)


def _late(begin: Begin, usual: float, number: int, limit: float, name: str, seconds: float) -> list[Finding]:
    """Returns a finding if a call that was late once is late every time."""
    for _ in range(_TRIES - 1):
        if limit + _GRACE < seconds <= limit + _LOST:
            seconds = min(seconds, _took(begin, usual, number, limit)[1][number])
    if seconds <= limit + _GRACE:
        return []
    back = f"returned after {seconds:.2g} s" if math.isfinite(seconds) else f"had not returned after {limit + _LOST:.2g} s"
    return [Finding(Law.TIMEOUT, f"{name} with timeout={limit:.2g} {back}", f"a result within {limit:.2g} s", _HINT)]


def _took(begin: Begin, usual: float, last: int | None = None, limit: float = 0.0) -> tuple[list[str], list[float]]:
    """Returns the names of calls and how many seconds each took; infinity if it is no longer waited for.

    Args:
        begin: see `Begin`.
        usual: seconds each may take.
        last: stops after this call, which has its own limit.
        limit: that limit.
    """
    took: list[float] = []
    with Turns(1) as turn:
        calls, close = turn.run(begin)
        for number, call in enumerate(calls[: None if last is None else last + 1]):
            allowed = limit if number == last else usual
            began = time.monotonic()
            try:
                counts = turn.run(call.make, allowed, within=allowed + _LOST)
            except TimeoutError:
                took.append(math.inf)
                break
            took.append(time.monotonic() - began if counts else 0.0)
        else:
            turn.run(close)
    took += [0.0] * (0 if last is None else last + 1 - len(took))  # an earlier one was lost this time
    return [call.name for call in calls], took
