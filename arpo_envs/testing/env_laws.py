"""`check_forkable_env`: the laws of forking, run over a whole stack of wrappers."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import gymnasium as gym

from . import elsewhere, fidelity, independence, level, payment, repetition, resources, secrecy
from .bench import Bench
from .laws import STATE, Law
from .report import Finding, Report, judge


def check_forkable_env(
    make_env: "str | Callable[[], gym.Env[Any, Any]]",
    *,
    actions: Sequence[Sequence[Any]] | None = None,
    seeds: Sequence[int] = (0, 1),
    laws: Collection[Law] | None = None,
    raise_on_fail: bool = True,
) -> Report:
    """Checks that environments made by `make_env` can be snapshotted, restored and cloned at any step.

    Args:
        make_env: a registered id, or a function without arguments that builds the whole stack anew.
        actions: sequences of actions to try, each from a reset on; without them, a `ToolEnv` is given
            calls (`ToolSpec.examples`, or words of the question), mistakes, junk and answers, and any other environment
            samples of its action space.
            They should make the episode use its randomness and reach its end.
        seeds: seeds to reset with, at least one.
        laws: the only ones to check, for a quick answer; without them, all.
        raise_on_fail: raise when a law is broken, instead of only reporting it.

    Returns:
        Which laws hold, which are broken and how, and which do not apply and why.

    Raises:
        ConformanceError: a law is broken and `raise_on_fail` is true.
        ValueError: no seed, or an empty sequence of actions.

    >>> report = check_forkable_env("ARPO/Search-v0", seeds=(3,))
    >>> report.ok
    True
    """
    make = (lambda: gym.make(make_env)) if isinstance(make_env, str) else make_env
    if not seeds:
        raise ValueError("check_forkable_env needs at least one seed.")
    if actions is not None and (not actions or not all(len(script) for script in actions)):
        raise ValueError("`actions` holds sequences of actions, none of them empty; leave it out for the default ones.")
    bench = Bench(make, tuple(seeds), None if actions is None else tuple(tuple(script) for script in actions))
    checks: dict[Law, Callable[[], Iterator[Finding]]] = {
        Law.TIMEOUT: lambda: elsewhere.on_time(bench),
        Law.NUMBERS: lambda: payment.numbers(bench),
        Law.SECRETS: lambda: secrecy.out_of_reach(bench),
        Law.LEVEL: lambda: level.honest(bench),
        Law.REPRODUCIBLE: lambda: repetition.reproducible(bench),
        Law.THREADS: lambda: elsewhere.threads(bench),
        Law.FAITHFUL: lambda: fidelity.faithful(bench),
        Law.REPEATS: lambda: repetition.repeats(bench),
        Law.INDEPENDENT: lambda: independence.independent(bench),
        Law.RESEED: lambda: repetition.reseeds(bench),
        Law.UNTOUCHED: lambda: repetition.untouched(bench),
        Law.REFUSAL: lambda: level.refuses(bench),
        Law.TRAVELS: lambda: repetition.travels(bench),
        Law.CLOSE: lambda: independence.closes(bench),
        Law.NO_OBJECT_LEAKS: lambda: resources.no_object_leaks(bench),
        Law.NO_HANDLE_LEAKS: lambda: resources.no_handle_leaks(bench),
        Law.INFO: lambda: independence.private_info(bench),
        Law.DEEPCOPY: lambda: repetition.deepcopies(bench),
        Law.PORTABLE: lambda: repetition.portable(bench),
    }
    checks = {law: check for law, check in checks.items() if laws is None or law in laws}
    subject = f"check_forkable_env({bench.name})"
    report = judge(subject, checks, frozenset({Law.TIMEOUT, Law.LEVEL, Law.NUMBERS, Law.REPRODUCIBLE}), advice=STATE)
    if raise_on_fail:
        report.raise_on_failure()
    return report
