"""Laws about a session's clones: they continue as it would, independently of each other, and free what they own."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from ..forking import ForkLevel
from ..tools import Session
from .fidelity import where_sound
from .laws import Law
from .probing import generators, live_objects, random_state, threads
from .report import Finding, SkippedLaw
from .resources import countable_handles, left_behind
from .runs import difference
from .tool_bench import Place, ToolBench

_LOST = "The clone lost something: copy all that later calls depend on, and what a connection, a file or a process holds."
_CHANGED = "Cloning changed the original: clone() may only read; draw nothing from its generator, and take nothing from it."
_SHARED = "The clone shares state with its original: a session that changes must not return itself from clone()."


def faithful(bench: ToolBench) -> Iterator[Finding]:
    """A clone taken after any call, and a clone of that clone, each called first."""
    for seed, cut in bench.every_cut:
        for generation, who in enumerate(("a clone", "a clone of a clone")):
            if generation and cut != len(bench.calls) // 2:
                continue
            with ExitStack() as closing:
                session = _cut(bench, seed, cut, closing)
                for _ in range(generation + 1):
                    (session,) = _cloned(bench, session, 1, closing)
                seen = bench.run(session, bench.script[cut:])
                yield from bench.compare(Law.FAITHFUL, who, seen, seed, _LOST, cut)


def untouched(bench: ToolBench) -> Iterator[Finding]:
    """A session that was cloned continues as one that was not."""
    for seed, cut in bench.cuts:
        with ExitStack() as closing:
            session = _cut(bench, seed, cut, closing)
            _cloned(bench, session, 2, closing)
            seen = bench.run(session, bench.calls[cut:])
            yield from bench.compare(Law.UNTOUCHED, "the original, after it was cloned", seen, seed, _CHANGED, cut)


def independent(bench: ToolBench) -> Iterator[Finding]:
    """Calls to one do not show in the others, whichever is called first."""
    yield from where_sound(bench.cuts, partial(_independent, bench), partial(_is_sound, bench))


def _independent(bench: ToolBench, place: Place) -> Iterator[Finding]:
    seed, cut = place
    for child_first in (False, True):
        with ExitStack() as closing:
            parent = _cut(bench, seed, cut, closing)
            child, other = _cloned(bench, parent, 2, closing)
            order = [("the original", parent), ("a clone", child)]
            acted = ""
            for who, session in [*(order[::-1] if child_first else order), ("another clone", other)]:
                seen = bench.run(session, bench.calls[cut:])
                yield from bench.compare(Law.INDEPENDENT, f"{who}{acted}", seen, seed, _SHARED, cut)
                acted = f", after {who} was called"


def reseeds(bench: ToolBench) -> Iterator[Finding]:
    """A clone with another seed draws anew; with the same seed, the same."""
    hint = "reseed(seed) must replace every generator that the session draws from."
    drawn = False
    for seed, cut in bench.cuts:
        with ExitStack() as closing:
            parent = _cut(bench, seed, cut, closing)
            plain, one, other, again = _cloned(bench, parent, 4, closing)
            for session, new in ((one, 5), (other, 6), (again, 5)):
                session.reseed(new)
            before, with_five, with_six = _states(plain), _states(one), _states(other)
            bench.run(plain, bench.calls[cut:])
            after = _states(plain)
            moved = {path for path in before.keys() & after.keys() if difference(before[path], after[path], "")}
            for path in sorted(moved & with_five.keys() & with_six.keys()):
                if difference(with_five[path], with_six[path], "") is None:
                    happened = f"{path} is drawn from, and is the same after reseed(5) and reseed(6)"
                    yield Finding(Law.RESEED, happened, "random states that differ", hint)
            first, differently = bench.run(one, bench.calls[cut:]), bench.run(other, bench.calls[cut:])
            second = bench.run(again, bench.calls[cut:])
            if first != second:
                yield Finding(Law.RESEED, f"after reseed(5) one clone returned {second}", str(first), hint)
            drawn = drawn or bool(moved) or first != differently
    if not drawn:
        raise SkippedLaw("these calls draw nothing at random")


def _states(session: Session) -> dict[str, Any]:
    return {path: random_state(generator) for path, generator in generators(session).items()}


def closes(bench: ToolBench) -> Iterator[Finding]:
    """Original and clones outlive each other's close()."""
    yield from where_sound(bench.cuts, partial(_closes, bench), partial(_is_sound, bench))


def _closes(bench: ToolBench, place: Place) -> Iterator[Finding]:
    hint = "close() may free only what this session alone owns."
    seed, cut = place
    parent = bench.open(seed)
    bench.run(parent, bench.calls[:cut])
    child, kept = bench.clones(parent, 2)
    child.close()
    child.close()
    seen = bench.run(parent, bench.calls[cut:])
    yield from bench.compare(Law.CLOSE, "the original of a closed clone", seen, seed, hint, cut)
    parent.close()
    seen = bench.run(kept, bench.calls[cut:])
    yield from bench.compare(Law.CLOSE, "a clone of a closed original", seen, seed, hint, cut)
    kept.close()


def no_object_leaks(bench: ToolBench) -> Iterator[Finding]:
    """Opening, cloning and closing many times leaves no session and no thread behind."""
    session = bench.open(bench.seeds[0])
    kind = type(session)
    session.close()
    counts = {f"objects of {kind.__name__}": lambda: live_objects((kind,)), "threads": threads}
    yield from left_behind(Law.NO_OBJECT_LEAKS, counts, lambda: _cycle(bench))


def no_handle_leaks(bench: ToolBench) -> Iterator[Finding]:
    """Nor a file descriptor or a process."""
    yield from left_behind(Law.NO_HANDLE_LEAKS, countable_handles(), lambda: _cycle(bench))


def _cycle(bench: ToolBench) -> None:
    parent = bench.open(bench.seeds[0])
    children = bench.clones(parent, 2) if bench.tool.fork_level is not ForkLevel.NONE else []
    for session in (parent, *children):
        bench.run(session, bench.calls[:1])
        session.close()


def _cut(bench: ToolBench, seed: int, cut: int, closing: ExitStack) -> Session:
    """Returns a session in which the first `cut` calls of the script were made."""
    session = bench.open(seed)
    closing.callback(session.close)
    bench.run(session, bench.script[:cut])
    return session


def _cloned(bench: ToolBench, session: Session, n: int, closing: ExitStack) -> list[Session]:
    children = bench.clones(session, n)
    for child in children:
        closing.callback(child.close)
    return children


def _is_sound(bench: ToolBench, place: Place) -> bool:
    """Whether the original and each of two clones, called alone, continue as a session that was never cloned."""
    seed, cut = place
    for which in range(3):
        with ExitStack() as closing:
            parent = _cut(bench, seed, cut, closing)
            session = (parent, *_cloned(bench, parent, 2, closing))[which]
            if bench.run(session, bench.calls[cut:]) != bench.wanted[seed][cut : len(bench.calls)]:
                return False
    return True
