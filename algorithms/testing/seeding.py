"""Laws about randomness: a draw is a function of its seed and its position, and of nothing else."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import numpy as np

from arpo_envs.testing import Finding, SkippedLaw

from ..policies import Generation
from .bench import Bench
from .exactness import logprob_findings
from .laws import Law

_SIBLINGS = 6
_ENOUGH_NATS = 16.0
"""Entropy of a whole action above which two equal ones are not a coincidence."""


async def seeds(bench: Bench) -> AsyncIterator[Finding]:
    """The same request gives the same tokens, now and after others."""
    request: dict[str, Any] = {"context": bench.text_context(), "tokens": 12, "seed": 11}
    first = await bench.ask(**request)
    await bench.ask(bench.random_context(5), 3, seed=4)
    second = await bench.ask(**request)
    if second.tokens != first.tokens:
        hint = "Draw from (seed, position) only; a backend's own generator must be seeded per request."
        yield Finding(Law.SEEDS, f"one seed drew {first.tokens} and then {second.tokens}", "the same tokens", hint)


async def siblings(bench: Bench) -> AsyncIterator[Finding]:
    """Different seeds give different actions where the model leaves a choice."""
    context = bench.text_context()
    drawn = await bench.ask_all([{"context": context, "tokens": 16, "seed": seed} for seed in range(_SIBLINGS)])
    nats = min(sum(out.entropies) for out in drawn)
    if nats < _ENOUGH_NATS:
        raise SkippedLaw(f"the policy is too certain: {nats:.1f} nats in an action, {_ENOUGH_NATS:.0f} are needed")
    hint = "Use the seed of the request, and the position: forks from one context differ only in their seeds."
    different = len({out.tokens for out in drawn})
    if different < _SIBLINGS:
        yield Finding(Law.SIBLINGS, f"{_SIBLINGS} seeds drew {different} different action(s)", f"{_SIBLINGS}", hint)
    firsts = len({out.tokens[0] for out in drawn})
    if firsts == 1 and drawn[0].entropies[0] > np.log(16):
        yield Finding(Law.SIBLINGS, f"{_SIBLINGS} seeds drew one first token", "several", hint)


async def split(bench: Bench) -> AsyncIterator[Finding]:
    """generate(k) and then the rest equals one call."""
    if not bench.promises.split:
        raise SkippedLaw("the backend does not promise it")
    hint = "The draw at position p of the action depends on (seed, p) only: include `offset`."
    context = bench.text_context()
    whole = await bench.ask(context, 14, seed=21)
    for k in (1, 5, 13):
        probe = await bench.ask(context, k, seed=21)
        if probe.finish == "stop":
            continue
        tail = bench.decode(probe.tokens)
        rest = await bench.ask([*context, *probe.tokens], 14 - k, seed=21, offset=k, tail=tail)
        if probe.tokens + rest.tokens != whole.tokens:
            happened = f"{k} tokens and the rest: {probe.tokens + rest.tokens}"
            yield Finding(Law.SPLIT, happened, f"{whole.tokens}", hint)
        elif _apart(probe.logprobs + rest.logprobs, whole.logprobs) > 2 * bench.promises.logprob_slack:
            yield Finding(Law.SPLIT, f"{k} tokens and the rest have other log-probabilities", "the same", hint)


def _requests(bench: Bench, count: int) -> list[dict[str, Any]]:
    contexts = [bench.text_context(i) if i % 2 else bench.random_context(i, 3 + 5 * (i % 7)) for i in range(count)]
    return [{"context": context, "tokens": 1 + i % 9, "seed": i} for i, context in enumerate(contexts)]


async def batch(bench: Bench) -> AsyncIterator[Finding]:
    """A request gives the same result alone and among others."""
    if not bench.promises.batch:
        raise SkippedLaw("the backend does not promise it")
    mine: dict[str, Any] = {"context": bench.text_context(99), "tokens": 12, "seed": 77}
    alone = await bench.ask(**mine)
    others = _requests(bench, 8)
    hint = "Padding must be masked and positions counted per row; draws must not come from one generator for the batch."
    for place in (0, 4, 8):
        among = (await bench.ask_all([*others[:place], mine, *others[place:]]))[place]
        if among.tokens != alone.tokens:
            yield Finding(Law.BATCH, f"among 8 others it drew {among.tokens}", f"{alone.tokens}, as when alone", hint)
        elif _apart(among.logprobs, alone.logprobs) > 2 * bench.promises.logprob_slack:
            yield Finding(Law.BATCH, "among 8 others the log-probabilities differ", "the same as when alone", hint)


async def bits(bench: Bench) -> AsyncIterator[Finding]:
    """A request gives the same bits alone, among others in any order, and as the continuation of what is known already."""
    if not bench.promises.bits:
        raise SkippedLaw("the backend does not promise it")
    requests = _requests(bench, 8)
    alone = [await bench.ask(**request) for request in requests]
    hint = "Shapes of products decide how they are rounded: they may depend on a request's own tokens alone."
    for what, order in (("among the others", 1), ("among the others in reverse", -1)):
        among = (await bench.ask_all(requests[::order]))[::order]
        for number, (one, other) in enumerate(zip(among, alone, strict=True)):
            if one != other:
                yield Finding(Law.BITS, f"request {number} gave {one} {what}", f"{other}, as when alone", hint)
    request = max(requests, key=lambda one: int(one["tokens"]))
    first = await bench.ask(**request)
    longer: dict[str, Any] = {"context": [*request["context"], *first.tokens], "tokens": 9, "seed": 3}
    known = await bench.ask(**longer)
    await bench.ask_all(_requests(bench, bench.capacity))  # as many as to take the place of what is kept, if any is
    if (fresh := await bench.ask(**longer)) != known:
        yield Finding(Law.BITS, f"after {bench.capacity} others it gave {fresh}", f"{known}, as when it went on", hint)


async def load(bench: Bench) -> AsyncIterator[Finding]:
    """More requests than can be served together: each gets its own answer."""
    requests = _requests(bench, bench.capacity)
    drawn = await bench.ask_all(requests)
    hint = "Answers were mixed up, or a row continued with another row's keys."
    for request, out in zip(requests, drawn, strict=True):
        for finding in await _own(bench, request, out, hint):
            yield finding


async def _own(bench: Bench, request: Mapping[str, Any], out: Generation, hint: str) -> list[Finding]:
    """Returns a finding if an answer is not the one to this request."""
    if bench.reference is not None:
        return logprob_findings(bench, Law.LOAD, request["context"], out, 1.0, hint)
    alone = await bench.ask(**request)
    if alone.tokens == out.tokens:
        return []
    return [Finding(Law.LOAD, f"among {bench.capacity} requests one drew {out.tokens}", f"{alone.tokens}, as when alone", hint)]


def _apart(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return float(np.abs(np.asarray(one) - np.asarray(other)).max(initial=0.0))
