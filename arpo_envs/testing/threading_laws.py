"""Whether something behaves the same in several threads as in one."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from .laws import Law
from .report import Finding, SkippedLaw
from .runs import difference
from .turns import Turns

Run = Callable[..., Any]
"""Calls a function with arguments, in some thread, and returns its result."""
Played = Sequence[tuple[str, Mapping[str, Any]]]
"""What was done, in words, and its results by name, in order."""

_AT_ONCE = 3
_PATIENCE, _TIMES = 10.0, 20
"""Seconds that anything may take in several threads, and the multiple of what everything took in one."""
_TURNS = (
    "`collect` opens, calls, clones and closes in whichever thread is free, though never two at once for one episode. Keep "
    "nothing in threading.local, set no signal handlers, and open thread-bound things for any thread (sqlite3.connect with "
    "check_same_thread=False)."
)
_BESIDE = "Several episodes run at once, each in some thread: what they share needs a lock, or must not change."


def any_thread(forked: Callable[[Run], Played], whole: Callable[[], Played]) -> Iterator[Finding]:
    """Yields a finding if the results in several threads differ from those in one.

    Args:
        forked: plays through the given runner, once with direct calls, once with each call in a different thread from the last.
        whole: plays by itself, first alone and then several times at once.

    Raises:
        SkippedLaw: it fails in one thread already.
    """
    began = time.monotonic()
    try:
        wanted, alone = forked(_directly), whole()
    except SkippedLaw:
        raise
    except Exception as error:
        raise SkippedLaw(f"it fails in one thread already: {type(error).__name__}: {error}") from error
    patience = _PATIENCE + _TIMES * (time.monotonic() - began)
    with Turns() as turns:
        yield from _compared("called from several threads", lambda: forked(partial(turns.run, within=patience)), wanted, _TURNS)
    with Turns(_AT_ONCE) as turns:
        several = list(alone) * _AT_ONCE
        how = f"next to {_AT_ONCE - 1} others, each in a thread of its own"
        yield from _compared(how, lambda: list(chain(*turns.at_once(whole, _AT_ONCE, patience))), several, _BESIDE)


def _directly(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def _compared(how: str, play: Callable[[], Played], wanted: Played, hint: str) -> Iterator[Finding]:
    try:
        seen = play()
    except Exception as error:  # noqa: BLE001  # the subject may fail in any way
        happened = f"{how}, it raised {type(error).__name__}: {error or 'it did not return'}"
        yield Finding(Law.THREADS, happened, "the same as in one thread", hint)
        return
    for (what, one), (_, other) in zip(seen, wanted, strict=False):
        for name in one:
            found = difference(one[name], other.get(name), name)
            if found is not None:
                yield Finding(Law.THREADS, f"{how}, {what}: {found[0]}", f"{found[1]}, as in one thread", hint)
                return
