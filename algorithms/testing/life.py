"""Laws about a policy's life: cancelling, refusing, loading weights, closing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from arpo_envs import ConfigError
from arpo_envs.testing import Finding, SkippedLaw

from ..policies import Generation
from .bench import Bench
from .exactness import logprob_findings
from .laws import Law

_ROUNDS = 3
_SOON = 0.01
"""Seconds after which requests are cancelled: by then some wait, some decode."""
_WHOLE_BLOCKS, _MOST_DRAWN = 256, 13
"""Tokens: whole blocks of a prefix cache, whose size is 16, 32 or 128 by vLLM's defaults; and room for the draws of `Sync`."""


async def cancel(bench: Bench) -> AsyncIterator[Finding]:
    """Cancelled requests, more than fit, free their room; their neighbours are not disturbed."""
    hint = "Free the row (vLLM: abort the request) when the awaiting task is cancelled, in a finally block."
    context = bench.text_context()
    alone = await bench.ask(context, 30, seed=3)
    for number in range(_ROUNDS):
        lost = [
            asyncio.create_task(bench.ask(bench.text_context(i), 30, seed=i)) for i in range(number, number + bench.capacity)
        ]
        kept = asyncio.create_task(bench.ask(context, 30, seed=3))
        await asyncio.sleep(_SOON * number)
        for task in lost:
            task.cancel()
        await asyncio.gather(*lost, return_exceptions=True)
        for finding in _disturbed(bench, context, await kept, alone.tokens, hint):
            yield finding
    for out in await bench.ask_all([{"context": context, "tokens": 4, "seed": 3}] * 2):
        for finding in _disturbed(bench, context, out, alone.tokens[:4], hint):
            yield finding


def _disturbed(bench: Bench, context: Sequence[int], out: Generation, alone: Sequence[int], hint: str) -> list[Finding]:
    """Returns how cancelled requests changed another's tokens, or, where these may vary with the batch, its numbers."""
    if bench.promises.batch and out.tokens != alone:
        happened = f"during or after {bench.capacity} cancelled requests one drew {out.tokens}"
        return [Finding(Law.CANCEL, happened, f"{alone}, as when alone", hint)]
    if bench.reference is None:
        return []
    return logprob_findings(bench, Law.CANCEL, context, out, 1.0, hint)


async def empty(bench: Bench) -> AsyncIterator[Finding]:
    """An empty context, or no tokens to draw, is the caller's mistake."""
    context = bench.text_context()
    for what, ids, tokens in (("an empty context", [], 4), ("max_tokens=0", context, 0)):
        for finding in await _refused(bench, Law.EMPTY, what, ids, tokens, ""):
            yield finding
    await bench.ask(context, 2)


async def too_long(bench: Bench) -> AsyncIterator[Finding]:
    """A request that cannot fit is refused, never shortened; one that just fits is served."""
    limit = bench.policy.context_length
    if limit > 1 << 16:
        raise SkippedLaw(f"the context length, {limit}, is too long to be reached here")
    full = bench.random_context(0, limit - 2)
    for count in (limit - 1, limit, limit + 10):
        what = f"a context of {count} tokens and 2 to draw, of {limit}"
        for finding in await _refused(bench, Law.TOO_LONG, what, [*full, *full[:12]][:count], 2, str(limit)):
            yield finding
    drawn = await bench.ask(full, 2)
    if len(drawn.tokens) != 2 and drawn.finish == "length":
        yield Finding(Law.TOO_LONG, f"a request that just fits drew {len(drawn.tokens)} tokens", "2", "Count exactly.")


async def _refused(bench: Bench, law: Law, what: str, ids: Sequence[int], tokens: int, says: str) -> list[Finding]:
    hint = "Check len(context) and max_tokens before anything else, and say what the limits are."
    try:
        drawn = await bench.ask(ids, tokens)
    except ConfigError as error:
        if says in str(error):
            return []
        return [Finding(law, f"{what}: {error}", f"a message that names {says}", hint)]
    except TimeoutError:
        raise
    except Exception as error:  # noqa: BLE001  # any other exception is the finding
        return [Finding(law, f"{what}: {type(error).__name__}: {error}", "ConfigError", hint)]
    return [Finding(law, f"{what} gave {len(drawn.tokens)} tokens", "ConfigError", hint)]


class Sync:
    """The laws of `load`, which share one load of the other weights.

    Args:
        bench: what they are checked on.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        # Caches keep whole blocks only; what does not fill one is recomputed, and cannot be stale.
        length = min(_WHOLE_BLOCKS, bench.policy.context_length - _MOST_DRAWN)
        text = bench.text_context(7)
        self._context = (text * -(-length // len(text)))[:length]
        self._before: Any = None
        self._version = 0

    async def _loaded(self) -> None:
        """Asks once under the old weights, so that there is something stale, and loads the others."""
        if self._before is not None:
            return
        if self.bench.other is None:
            raise SkippedLaw("no other weights were given")
        self._before = await self.bench.ask(self._context, 10, seed=8)
        self._version = self._before.version + 5
        await self.bench.within(self.bench.policy.load(self.bench.other, self._version))

    async def version(self) -> AsyncIterator[Finding]:
        """The version of a generation and of the policy is the one that was loaded."""
        await self._loaded()
        drawn = await self.bench.ask(self.bench.text_context(8), 4)
        for who, version in (("a generation", drawn.version), ("the policy", self.bench.policy.version)):
            if version != self._version:
                happened = f"after load(…, version={self._version}), {who} reports {version}"
                yield Finding(Law.VERSION, happened, f"{self._version}", "Set the version where the weights are set.")

    async def weights(self) -> AsyncIterator[Finding]:
        """Contexts never seen before have the new weights' log-probabilities."""
        hint = "The weights did not arrive: tied embeddings, prepacked or renamed parameters are usual causes."
        for finding in await self._compared(Law.WEIGHTS, self.bench.random_context(77), hint):
            yield finding

    async def stale(self) -> AsyncIterator[Finding]:
        """A context that was seen under the old weights also has the new weights' log-probabilities."""
        hint = "Drop the prefix cache (vLLM: reset_prefix_cache) with every load."
        for finding in await self._compared(Law.STALE, [*self._context, *self._first_drawn()], hint):
            yield finding

    def _first_drawn(self) -> tuple[int, ...]:
        return tuple(self._before.tokens[:5]) if self._before is not None else ()

    async def _compared(self, law: Law, context: list[int], hint: str) -> list[Finding]:
        await self._loaded()
        if self.bench.other_reference is None:
            raise SkippedLaw("no reference for the other weights was given")
        drawn = await self.bench.ask(context, 8, seed=8)
        return logprob_findings(self.bench, law, context, drawn, 1.0, hint, self.bench.other_reference)


async def close(bench: Bench) -> AsyncIterator[Finding]:
    """Requests waiting when a policy closes get an answer or an exception; later ones get an exception."""
    hint = "close() must fail requests in progress, and generate() must raise afterwards."
    waiting = [asyncio.create_task(bench.ask(bench.text_context(i), 30, seed=i)) for i in range(bench.capacity)]
    await asyncio.sleep(_SOON)
    await bench.within(bench.policy.close())
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        if isinstance(outcome, TimeoutError):
            yield Finding(Law.CLOSE, "a request in progress got no answer", "an answer or an exception", hint)
            break
    try:
        out = await bench.ask(bench.text_context(), 2)
    except TimeoutError:
        yield Finding(Law.CLOSE, "a request to a closed policy got no answer", "an exception", hint)
    except Exception:  # noqa: BLE001  # any kind will do
        pass
    else:
        yield Finding(Law.CLOSE, f"a closed policy drew {out.tokens}", "an exception", hint)
    await bench.within(bench.policy.close())
