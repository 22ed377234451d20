"""Laws about leaks: what many forks leave behind."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from ..forking import clone, clone_many, layers, snapshot
from ..members import SESSIONS
from ..restoring import restore
from .bench import Bench, Case
from .laws import Law
from .probing import child_processes, descriptors, live_objects, settled, threads
from .report import Finding, SkippedLaw
from .runs import Env, act

CYCLES = 8
_HINT = "close() must free what a clone, a snapshot or a restored state took, and restore must free what it replaces."


def no_object_leaks(bench: Bench) -> Iterator[Finding]:
    """Forking and closing many times leaves no environment, session or thread behind."""
    case = bench.cases[-1]
    with bench.at(case) as env:
        sessions = SESSIONS.of(env.unwrapped).values()
        kinds = tuple({type(thing) for thing in (*layers(env), *sessions)})
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        counts = {f"objects of {names}": lambda: live_objects(kinds), "threads": threads}
        yield from left_behind(Law.NO_OBJECT_LEAKS, counts, lambda: cycle(env, case))


def no_handle_leaks(bench: Bench) -> Iterator[Finding]:
    """Forking and closing many times leaves no file descriptor and no child process behind."""
    case = bench.cases[-1]
    counts = countable_handles()
    with bench.at(case) as env:
        yield from left_behind(Law.NO_HANDLE_LEAKS, counts, lambda: cycle(env, case))


def countable_handles() -> Mapping[str, Callable[[], int]]:
    """Returns what can be counted on this machine.

    Raises:
        SkippedLaw: nothing can: there is no /proc.
    """
    ways = {"file descriptors": descriptors, "child processes": child_processes}
    counts = {name: partial(_number, count) for name, count in ways.items() if count() is not None}
    if not counts:
        raise SkippedLaw("this machine has no /proc to count descriptors and processes with")
    return counts


def _number(count: Callable[[], int | None]) -> int:
    return count() or 0


def left_behind(law: Law, counts: Mapping[str, Callable[[], int]], once: Callable[[], None]) -> Iterator[Finding]:
    """Yields a finding for everything that `CYCLES` calls of `once` leave behind, and as many more calls again.

    A pool of connections may grow by one at any time; only a leak keeps growing.
    """
    once()  # what is made on first use (caches, pools) is not a leak
    growth = _growth(counts, once)
    if growth:
        growth = _growth({name: counts[name] for name in growth}, once)
    for name, number in growth.items():
        yield Finding(law, f"{CYCLES} cycles left {number} {name} behind", "none", _HINT)


def _growth(counts: Mapping[str, Callable[[], int]], once: Callable[[], None]) -> dict[str, int]:
    """Returns by how much each count grew over `CYCLES` calls of `once`, for those that did."""
    before = {name: count() for name, count in counts.items()}
    for _ in range(CYCLES):
        once()
    grown = {name: settled(count, before[name]) - before[name] for name, count in counts.items()}
    return {name: number for name, number in grown.items() if number > 0}


def cycle(env: Env, case: Case) -> None:
    """Makes every kind of copy, uses it and closes it."""
    with snapshot(env) as snap, clone(env) as child, snap.spawn() as spawned:
        act(child, case.rest)
        act(spawned, case.other)
        restore(env, snap)
        restore(child, snap)
        for twin in clone_many(env, [None, 3]):
            if not isinstance(twin, Exception):
                twin.close()
