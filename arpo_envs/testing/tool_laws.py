"""`check_tool`: the laws of tools and sessions, run over one tool."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..dialects import RESERVED
from ..errors import CloneError
from ..forking import ForkLevel
from ..tasks import Task
from ..tools import Session, Tool, ToolResult, complaint
from .laws import STATE, Law
from .probing import generators, live_objects, random_state, threads
from .report import Finding, Report, SkippedLaw, judge
from .resources import countable_handles, left_behind
from .runs import difference
from .scripts import example_arguments, example_calls, hostile_texts

Call = tuple[str, Mapping[str, Any]]

_SHARED = "The clone shares state with its original: a session that changes must not return itself from clone()."


def check_tool(
    tool: Tool,
    *,
    calls: Sequence[Call] | None = None,
    task: Task | None = None,
    seeds: Sequence[int] = (0, 1),
    timeout: float = 10.0,
    raise_on_fail: bool = True,
) -> Report:
    """Checks that a tool keeps the contract of `arpo_envs.tools.Tool` and `Session`.

    Args:
        tool: what to check.
        calls: (name, arguments) pairs, made in order; they should change the session's state and use its
            randomness. Without them, each name is called three times with its spec's examples, or with any words.
        task: what sessions are opened for.
        seeds: seeds of the generator that `open` is given.
        timeout: seconds each call may take.
        raise_on_fail: raise when a law is broken, instead of only reporting it.

    Returns:
        Which laws hold, which are broken and how, and which do not apply and why.

    Raises:
        ConformanceError: a law is broken and `raise_on_fail` is true.
    """
    default = example_calls(tool.specs, ("one", "two", "one"))
    bench = _ToolBench(
        tool,
        tuple(calls) if calls is not None else tuple(default),
        task or Task("check", "What is checked?", ("nothing",)),
        tuple(seeds),
        timeout,
    )
    checks: dict[Law, Callable[[], Iterator[Finding]]] = {
        Law.SPECS: lambda: _specs(bench),
        Law.RESULTS: lambda: _results(bench),
        Law.REPRODUCIBLE: lambda: _reproducible(bench),
        Law.MISTAKES: lambda: _mistakes(bench),
        Law.INDEPENDENT: lambda: _independent(bench),
        Law.RESEED: lambda: _reseeds(bench),
        Law.CLOSE: lambda: _closes(bench),
        Law.NO_OBJECT_LEAKS: lambda: _no_object_leaks(bench),
        Law.NO_HANDLE_LEAKS: lambda: _no_handle_leaks(bench),
    }
    first = frozenset({Law.SPECS, Law.RESULTS, Law.REPRODUCIBLE})
    report = judge(f"check_tool({type(tool).__name__})", checks, first, advice=STATE)
    if raise_on_fail:
        report.raise_on_failure()
    return report


@dataclass(frozen=True)
class _ToolBench:
    tool: Tool
    calls: tuple[Call, ...]
    task: Task
    seeds: tuple[int, ...]
    timeout: float

    def open(self, seed: int) -> Session:
        return self.tool.open(self.task, np.random.default_rng(seed))

    def run(self, session: Session, calls: Sequence[Call]) -> list[Any]:
        return [session.call(name, dict(arguments), timeout=self.timeout) for name, arguments in calls]

    @cached_property
    def wanted(self) -> dict[int, list[Any]]:
        """What the calls give in a session that was never cloned, by seed."""
        results = {}
        for seed in self.seeds:
            session = self.open(seed)
            results[seed] = self.run(session, self.calls)
            session.close()
        return results

    def clones(self, session: Session, n: int) -> list[Session]:
        if self.tool.fork_level is ForkLevel.NONE:
            raise SkippedLaw("the tool declares fork_level NONE")
        children = session.clone(n)
        if len(children) != n:
            raise AssertionError(f"clone({n}) returned {len(children)} sessions")
        failed = next((child for child in children if isinstance(child, CloneError)), None)
        if failed is not None:
            raise failed
        return [child for child in children if not isinstance(child, CloneError)]

    @property
    def cuts(self) -> Iterator[tuple[int, int]]:
        """Yields (seed, calls made before the clone)."""
        return ((seed, cut) for seed in self.seeds for cut in sorted({0, 1, len(self.calls) // 2}) if cut < len(self.calls))

    def compare(self, law: Law, who: str, seen: list[Any], seed: int, cut: int, hint: str) -> Iterator[Finding]:
        for number, (one, other) in enumerate(zip(seen, self.wanted[seed][cut:], strict=False), start=1):
            if one != other:
                happened = f"{who}: call {number} after the clone gave {one}; seed {seed}, cloned after {cut} call(s)"
                yield Finding(law, happened, str(other), hint)
                return


def _specs(bench: _ToolBench) -> Iterator[Finding]:
    names = [spec.name for spec in bench.tool.specs]
    if not names or len(set(names)) != len(names):
        yield Finding(Law.SPECS, f"the names are {names}", "at least one, all distinct", "Give each call its own name.")
    for spec in bench.tool.specs:
        if not spec.name.isidentifier() or spec.name != spec.name.lower() or spec.name in RESERVED:
            expected = f"a lower-case identifier other than {', '.join(sorted(RESERVED))}"
            yield Finding(Law.SPECS, f"a name is {spec.name!r}", expected, "The dialects use the name as a tag.")
        if spec.parameters and spec.parameters.get("type") != "object":
            happened = f"{spec.name}: parameters have the type {spec.parameters.get('type')!r}"
            yield Finding(Law.SPECS, happened, "a JSON schema of type 'object'", "See ToolSpec.")
        missing = [name for name in spec.parameters.get("required", ()) if name not in spec.parameters.get("properties", {})]
        if missing:
            happened = f"{spec.name}: required but not among the properties: {missing}"
            yield Finding(Law.SPECS, happened, "every required parameter described", "Add it to 'properties'.")
        for example in spec.examples:
            if (wrong := complaint(spec, example)) is not None:
                happened = f"{spec.name}: the example {dict(example)} cannot be called: {wrong}"
                yield Finding(Law.SPECS, happened, "arguments that fit the parameters", "Correct ToolSpec.examples.")
        if not spec.description.strip():
            yield Finding(Law.SPECS, f"{spec.name} has no description", "a sentence for the model", "Describe it.")
    if not isinstance(bench.tool.fork_level, ForkLevel):
        yield Finding(Law.SPECS, f"fork_level is {bench.tool.fork_level!r}", "a ForkLevel", "Declare one.")


def _results(bench: _ToolBench) -> Iterator[Finding]:
    session = bench.open(bench.seeds[0])
    for name, arguments in bench.calls:
        yield from _is_result(Law.RESULTS, session.call(name, dict(arguments), timeout=bench.timeout), f"{name}({arguments})")
    session.close()


def _is_result(law: Law, result: Any, call: str) -> Iterator[Finding]:
    expected, hint = "ToolResult(text: str, error: str | None)", "Return a ToolResult, for errors too."
    if not isinstance(result, ToolResult) or not isinstance(result.text, str):
        yield Finding(law, f"{call} returned {result!r}", expected, hint)
    elif result.error is not None and not isinstance(result.error, str):
        yield Finding(law, f"{call} returned the error {result.error!r}", expected, hint)


def _reproducible(bench: _ToolBench) -> Iterator[Finding]:
    for seed in bench.seeds:
        session = bench.open(seed)
        hint = "Draw only from the generator that open() was given, and keep nothing on the tool."
        yield from bench.compare(Law.REPRODUCIBLE, "a second session", bench.run(session, bench.calls), seed, 0, hint)
        session.close()


def _mistakes(bench: _ToolBench) -> Iterator[Finding]:
    session = bench.open(bench.seeds[0])
    for spec in bench.tool.specs:
        for text in hostile_texts(np.random.default_rng(bench.seeds[0])):
            arguments = example_arguments(spec, text)
            if complaint(spec, arguments) is not None:
                continue  # the environment never lets such a call through
            call = f"{spec.name}({text[:40]!r})"
            try:
                result = session.call(spec.name, arguments, timeout=bench.timeout)
            except Exception as error:  # noqa: BLE001  # whatever it is, the model should have been told
                expected, hint = "a ToolResult whose text says what to do", "Catch it and return a ToolResult with an error."
                yield Finding(Law.MISTAKES, f"{call} raised {type(error).__name__}: {error}", expected, hint)
            else:
                yield from _is_result(Law.MISTAKES, result, call)
    session.close()


def _independent(bench: _ToolBench) -> Iterator[Finding]:
    for seed, cut in bench.cuts:
        for child_first in (False, True):
            with ExitStack() as closing:
                parent = bench.open(seed)
                closing.callback(parent.close)
                bench.run(parent, bench.calls[:cut])
                child, other = bench.clones(parent, 2)
                closing.callback(child.close)
                closing.callback(other.close)
                order = [("the original", parent), ("a clone", child)]
                acted = ""
                for who, session in [*(order[::-1] if child_first else order), ("another clone", other)]:
                    seen = bench.run(session, bench.calls[cut:])
                    yield from bench.compare(Law.INDEPENDENT, f"{who}{acted}", seen, seed, cut, _SHARED)
                    acted = f", after {who} was called"


def _reseeds(bench: _ToolBench) -> Iterator[Finding]:
    hint = "reseed(seed) must replace every generator that the session draws from."
    drawn = False
    for seed, cut in bench.cuts:
        with ExitStack() as closing:
            parent = bench.open(seed)
            closing.callback(parent.close)
            bench.run(parent, bench.calls[:cut])
            plain, one, other, again = bench.clones(parent, 4)
            for session in (plain, one, other, again):
                closing.callback(session.close)
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
                yield Finding(Law.RESEED, f"after reseed(5) one clone gave {second}", str(first), hint)
            drawn = drawn or bool(moved) or first != differently
    if not drawn:
        raise SkippedLaw("these calls draw nothing at random")


def _states(session: Session) -> dict[str, Any]:
    return {path: random_state(generator) for path, generator in generators(session).items()}


def _closes(bench: _ToolBench) -> Iterator[Finding]:
    hint = "close() may free only what this session alone owns."
    for seed, cut in bench.cuts:
        parent = bench.open(seed)
        bench.run(parent, bench.calls[:cut])
        child, kept = bench.clones(parent, 2)
        child.close()
        child.close()
        seen = bench.run(parent, bench.calls[cut:])
        yield from bench.compare(Law.CLOSE, "the original of a closed clone", seen, seed, cut, hint)
        parent.close()
        seen = bench.run(kept, bench.calls[cut:])
        yield from bench.compare(Law.CLOSE, "a clone of a closed original", seen, seed, cut, hint)
        kept.close()


def _cycle(bench: _ToolBench) -> None:
    parent = bench.open(bench.seeds[0])
    children = bench.clones(parent, 2) if bench.tool.fork_level is not ForkLevel.NONE else []
    for session in (parent, *children):
        bench.run(session, bench.calls[:1])
        session.close()


def _no_object_leaks(bench: _ToolBench) -> Iterator[Finding]:
    session = bench.open(bench.seeds[0])
    kind = type(session)
    session.close()
    counts = {f"objects of {kind.__name__}": lambda: live_objects((kind,)), "threads": threads}
    yield from left_behind(Law.NO_OBJECT_LEAKS, counts, lambda: _cycle(bench))


def _no_handle_leaks(bench: _ToolBench) -> Iterator[Finding]:
    yield from left_behind(Law.NO_HANDLE_LEAKS, countable_handles(), lambda: _cycle(bench))
