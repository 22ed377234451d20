"""`check_tool`: the laws of tools and sessions, run over one tool."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..dialects import RESERVED
from ..forking import ForkLevel
from ..tasks import Task
from ..tools import Session, Tool, ToolResult, complaint
from . import tool_forks
from .laws import STATE, Law
from .read_back import differently_read
from .report import Finding, Report, SkippedLaw, judge
from .scripts import example_arguments, example_calls, hostile_texts
from .threading_laws import Played, Run, any_thread
from .timeouts import TELLING, Timed, overruns
from .tool_bench import Call, ToolBench

_SLOW = 1.0
"""Seconds that a slow call is given."""


def check_tool(
    tool: Tool,
    *,
    calls: Sequence[Call] | None = None,
    slow: Call | None = None,
    task: Task | None = None,
    seeds: Sequence[int] = (0, 1),
    timeout: float = 10.0,
    raise_on_fail: bool = True,
) -> Report:
    """Checks that a tool keeps the contract of `arpo_envs.tools.Tool` and `Session`.

    A check that takes longer than a few seconds says on standard error which law it is checking.

    Args:
        tool: what to check.
        calls: (name, arguments) pairs, made in order; they should change the session's state, show it, and use its
            randomness. Without them, each name is called three times with its spec's examples, or with arbitrary words.
        slow: a call that would take long, to see whether it returns within its timeout.
        task: what sessions are opened for.
        seeds: seeds for the generator that `open` is given.
        timeout: seconds each call may take.
        raise_on_fail: raise when a law is broken, instead of only reporting it.

    Returns:
        Which laws hold, which are broken and how, and which do not apply and why.

    Raises:
        ConformanceError: a law is broken and `raise_on_fail` is true.
    """
    default = example_calls(tool.specs, ("one", "two", "one"))
    bench = ToolBench(
        tool,
        tuple(calls) if calls is not None else tuple(default),
        slow,
        task or Task("check", "What is checked?", ("nothing",)),
        tuple(seeds),
        timeout,
    )
    checks: dict[Law, Callable[[], Iterator[Finding]]] = {
        Law.SPECS: lambda: _specs(bench),
        Law.TIMEOUT: lambda: _on_time(bench),
        Law.RESULTS: lambda: _results(bench),
        Law.REPRODUCIBLE: lambda: _reproducible(bench),
        Law.MISTAKES: lambda: _mistakes(bench),
        Law.THREADS: lambda: _threads(bench),
        Law.FAITHFUL: lambda: tool_forks.faithful(bench),
        Law.UNTOUCHED: lambda: tool_forks.untouched(bench),
        Law.INDEPENDENT: lambda: tool_forks.independent(bench),
        Law.RESEED: lambda: tool_forks.reseeds(bench),
        Law.CLOSE: lambda: tool_forks.closes(bench),
        Law.NO_OBJECT_LEAKS: lambda: tool_forks.no_object_leaks(bench),
        Law.NO_HANDLE_LEAKS: lambda: tool_forks.no_handle_leaks(bench),
    }
    first = frozenset({Law.SPECS, Law.TIMEOUT, Law.RESULTS, Law.REPRODUCIBLE})
    report = judge(f"check_tool({type(tool).__name__})", checks, first, advice=STATE)
    if raise_on_fail:
        report.raise_on_failure()
    return report


def _specs(bench: ToolBench) -> Iterator[Finding]:
    names = [spec.name for spec in bench.tool.specs]
    if not names or len(set(names)) != len(names):
        yield Finding(Law.SPECS, f"the names are {names}", "at least one, all distinct", "Give each call its own name.")
    for spec in bench.tool.specs:
        is_name = all(part.isidentifier() for part in spec.name.split("."))
        if not is_name or spec.name != spec.name.lower() or spec.name in RESERVED:
            expected = f"a lower-case identifier, or several with dots between, other than {', '.join(sorted(RESERVED))}"
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
            elif (read := differently_read(spec, example)) is not None:
                happened = f"{spec.name}: no model can make the call of the example {dict(example)}; {read}"
                yield Finding(Law.SPECS, happened, "arguments in JSON, and no empty string", "Correct ToolSpec.examples.")
        if not spec.description.strip():
            yield Finding(Law.SPECS, f"{spec.name} has no description", "a sentence for the model", "Describe it.")
    if not isinstance(bench.tool.fork_level, ForkLevel):
        yield Finding(Law.SPECS, f"fork_level is {bench.tool.fork_level!r}", "a ForkLevel", "Declare one.")


def _results(bench: ToolBench) -> Iterator[Finding]:
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


def _reproducible(bench: ToolBench) -> Iterator[Finding]:
    for seed in bench.seeds:
        session = bench.open(seed)
        hint = "Draw only from the generator that open() was given, and keep nothing on the tool."
        seen = bench.run(session, bench.script)
        yield from bench.compare(Law.REPRODUCIBLE, "a second session", seen, seed, hint)
        session.close()


def _mistakes(bench: ToolBench) -> Iterator[Finding]:
    session = bench.open(bench.seeds[0])
    for name, arguments in _hostile(bench):
        call = f"{name}({str(list(arguments.values()))[:60]})"
        try:
            result = session.call(name, dict(arguments), timeout=bench.timeout)
        except Exception as error:  # noqa: BLE001  # whatever it is, the model should have been told
            expected, hint = "a ToolResult whose text says what to do", "Catch it and return a ToolResult with an error."
            yield Finding(Law.MISTAKES, f"{call} raised {type(error).__name__}: {error}", expected, hint)
        else:
            yield from _is_result(Law.MISTAKES, result, call)
    session.close()


def _hostile(bench: ToolBench) -> list[Call]:
    """Returns calls with what a model might write, except those that an environment never lets through."""
    texts = hostile_texts(np.random.default_rng(bench.seeds[0]))
    calls = [(spec, example_arguments(spec, text)) for spec in bench.tool.specs for text in texts]
    return [(spec.name, arguments) for spec, arguments in calls if complaint(spec, arguments) is None]


def _on_time(bench: ToolBench) -> Iterator[Finding]:
    """Every call returns within its timeout, and a hostile or slow one does, too.

    Raises:
        SkippedLaw: no call takes long enough to tell.
    """
    told = False
    played = [(bench.calls, bench.timeout), (tuple(_hostile(bench)), bench.timeout)]
    if bench.slow is not None:
        played.append(((bench.slow,), min(_SLOW, bench.timeout)))
    for calls, timeout in played:
        found, telling = overruns(partial(_timed, bench, calls), timeout)
        yield from found
        if found:
            return
        told = told or telling
    if not told:
        raise SkippedLaw(f"no call took longer than {TELLING} s, and no other shows its timeout; give one that does as `slow`")


def _timed(bench: ToolBench, calls: Sequence[Call]) -> tuple[list[Timed], Callable[[], object]]:
    session = bench.open(bench.seeds[0])

    def make(call: Call, seconds: float) -> bool:
        try:
            session.call(call[0], dict(call[1]), timeout=seconds)
        except Exception:  # noqa: BLE001  # other laws find it
            return False
        return True

    names = [f"call {i}, {name}({str(dict(arguments))[:60]})," for i, (name, arguments) in enumerate(calls, start=1)]
    return [Timed(name, partial(make, call)) for name, call in zip(names, calls, strict=True)], session.close


def _threads(bench: ToolBench) -> Iterator[Finding]:
    """Every call in a different thread from the one before, a clone's too; then several sessions at once."""
    for seed in bench.seeds:
        yield from any_thread(partial(_forked, bench, seed), partial(_whole, bench, seed))


def _forked(bench: ToolBench, seed: int, run: Run) -> Played:
    cut = len(bench.calls) // 2
    session: Session = run(bench.open, seed)
    try:
        played = [*_called("the original", bench, session, bench.calls[:cut], run)]
        if bench.tool.fork_level is not ForkLevel.NONE:
            (clone,) = run(bench.clones, session, 1)
            played += _called("a clone", bench, clone, bench.calls[cut:], run)
            run(clone.close)
        played += _called("the original", bench, session, bench.calls[cut:], run)
    finally:
        run(session.close)
    return played


def _called(who: str, bench: ToolBench, session: Session, calls: Sequence[Call], run: Run) -> Played:
    return [(f"{who}, {name}", {"the result": run(bench.run, session, [(name, given)])[0]}) for name, given in calls]


def _whole(bench: ToolBench, seed: int) -> Played:
    session = bench.open(seed)
    played = [(f"call {i}", {"the result": result}) for i, result in enumerate(bench.run(session, bench.calls), start=1)]
    session.close()
    return played
