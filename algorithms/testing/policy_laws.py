"""`check_policy`: the laws of policies, run over one backend."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from arpo_envs.testing import Finding, Report, judge

from ..policies import Policy
from . import exactness, life, sampling, seeding, stops
from .bench import Bench, Logits, Promises, as_logits
from .laws import Law


def check_policy(
    make_policy: Callable[[], Policy | Awaitable[Policy]],
    *,
    encode: Callable[[str], Sequence[int]],
    decode: Callable[[Sequence[int]], str],
    reference: Logits | Any = None,
    other: Mapping[str, Any] | None = None,
    other_reference: Logits | Any = None,
    promises: Promises = Promises(),
    skip: Mapping[Law, str] | None = None,
    most: int | None = None,
    capacity: int = 24,
    timeout: float = 60.0,
    draws: int = 6000,
    raise_on_fail: bool = True,
) -> Report:
    """Checks that a policy keeps the contract of `algorithms.policies.Policy`.

    Args:
        make_policy: makes the policy, inside a running event loop; it is made once and closed at the end.
        encode: text to ids, without special tokens.
        decode: ids to text, special tokens included, as the policy matches stop strings.
        reference: the model the policy should be: a `transformers` model, or ids [T] -> logits [T, V].
        other: other weights for `load`; a policy without weights gives {}.
        other_reference: the model with the other weights, like `reference`.
        promises: what the backend promises beyond the core, and how exact its numbers are.
        skip: laws that do not apply, each with the reason, which the report shows.
        most: exclusive upper bound of the ids in random contexts; by default the vocabulary size.
        capacity: how many requests are made at once; give more than the backend serves together.
        timeout: seconds any answer may take.
        draws: how many tokens test whether the whole distribution is sampled; 6000 reveal that a tail of 1% is cut off.
        raise_on_fail: raise when a law is broken, instead of only reporting it.

    Returns:
        Which laws hold, which are broken and how, and which do not apply and why.

    Raises:
        ConformanceError: a law is broken and `raise_on_fail` is true.
    """

    async def make() -> Policy:
        made = make_policy()
        return await made if inspect.isawaitable(made) else made

    with asyncio.Runner() as runner:
        policy = runner.run(make())
        bench = Bench(
            policy,
            as_logits(reference) if reference is not None else None,
            other,
            as_logits(other_reference) if other_reference is not None else None,
            encode,
            decode,
            promises,
            most or policy.vocabulary_size,
            capacity,
            timeout,
            draws,
        )
        try:
            checks = {law: _awaited(runner, law, check) for law, check in _checks(bench).items()}
            report = judge(f"check_policy({type(policy).__name__})", checks, frozenset({Law.SHAPES}), skip=skip)
        finally:
            with suppress(Exception):  # the law on closing covers this
                runner.run(asyncio.wait_for(policy.close(), timeout))
    if raise_on_fail:
        report.raise_on_failure()
    return report


def _awaited(runner: asyncio.Runner, law: Law, check: Callable[[], AsyncIterator[Finding]]) -> Callable[[], Sequence[Finding]]:
    """Returns a check that runs to its end before it returns; a timeout is a finding."""

    async def found() -> list[Finding]:
        try:
            return [finding async for finding in check()]
        except TimeoutError:
            hint = "A request hangs: is a slot taken and never released?"
            return [Finding(law, "no answer came within the timeout", "an answer", hint)]

    return lambda: runner.run(found())


def _checks(bench: Bench) -> dict[Law, Callable[[], AsyncIterator[Finding]]]:
    """Returns the laws in order; loading and closing change the policy, so they come last."""
    sync = life.Sync(bench)
    return {
        Law.SHAPES: lambda: exactness.shapes(bench),
        Law.LIMITS: lambda: stops.limits(bench),
        Law.EXACT_IDS: lambda: exactness.exact_ids(bench),
        Law.LOGPROBS: lambda: exactness.logprobs(bench),
        Law.ENTROPIES: lambda: exactness.entropies(bench),
        Law.GREEDY: lambda: exactness.greedy(bench),
        Law.DRAWS: lambda: sampling.draws(bench),
        Law.STOP_TOKENS: lambda: stops.stop_tokens(bench),
        Law.STOP_STRINGS: lambda: stops.stop_strings(bench),
        Law.STOP_SEAM: lambda: stops.stop_seam(bench),
        Law.SEEDS: lambda: seeding.seeds(bench),
        Law.SIBLINGS: lambda: seeding.siblings(bench),
        Law.SPLIT: lambda: seeding.split(bench),
        Law.BATCH: lambda: seeding.batch(bench),
        Law.BITS: lambda: seeding.bits(bench),
        Law.LOAD: lambda: seeding.load(bench),
        Law.UNICODE: lambda: exactness.unicode(bench),
        Law.CANCEL: lambda: life.cancel(bench),
        Law.EMPTY: lambda: life.empty(bench),
        Law.TOO_LONG: lambda: life.too_long(bench),
        Law.VERSION: sync.version,
        Law.WEIGHTS: sync.weights,
        Law.STALE: sync.stale,
        Law.CLOSE: lambda: life.close(bench),
    }
