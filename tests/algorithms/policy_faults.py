"""A small exact policy without torch, and policies with one planted fault each, with the law each of them breaks."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from algorithms.policies import Generation, Sampling
from algorithms.seeds import uniforms
from algorithms.testing import Law, Promises
from arpo_envs import ConfigError

VOCABULARY = 256
"""Ids below 128 are ASCII; those from 128 on, and control characters, spell nothing."""


def encode(text: str) -> list[int]:
    return [ord(c) if c.isascii() else 128 + ord(c) % 128 for c in text]


def decode(ids: Sequence[int]) -> str:
    return "".join(chr(i) if 32 <= i < 127 else "\ufffd" for i in ids)


def weights(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, VOCABULARY, 12))


def state(table: np.ndarray, ids: Sequence[int], start: np.ndarray | None = None) -> np.ndarray:
    """A recurrent state of all ids, the recent ones most."""
    now = np.zeros(12) if start is None else start
    for i in ids:
        now = np.tanh(0.7 * now + table[0, i])
    return now


def model(table: np.ndarray) -> Any:
    """The reference: ids -> logits [T, V]."""

    def logits(ids: Sequence[int]) -> np.ndarray:
        now, rows = np.zeros(12), []
        for i in ids:
            now = state(table, [i], now)
            rows.append(table[1] @ now * 0.4)
        return np.array(rows)

    return logits


class Healthy:
    """Draws from a table, through few places, with a cache of states by prefix."""

    context_length = 400
    vocabulary_size = VOCABULARY
    places = 6
    promises = Promises(bits=True)

    def __init__(self) -> None:
        self.version = 0
        self.table = weights(0)
        self.cache: dict[tuple[int, ...], np.ndarray] = {}
        self.free = asyncio.Semaphore(self.places)
        self.live = 0
        self.closed = asyncio.Event()

    async def generate(
        self, context: Sequence[int], params: Sampling, *, seed: int, offset: int = 0, tail: str = ""
    ) -> Generation:
        self.check(context, params)
        self.live += 1
        try:
            await self.enter()
            try:
                return await self.run(context, params, seed, offset, tail)
            finally:
                self.leave()
        finally:
            self.live -= 1

    def check(self, context: Sequence[int], params: Sampling) -> None:
        if not context or params.max_tokens < 1:
            raise ConfigError("There is nothing to do.")
        if len(context) + params.max_tokens > self.context_length:
            raise ConfigError(f"The limit is {self.context_length} tokens.")

    async def enter(self) -> None:
        await self.free.acquire()

    def leave(self) -> None:
        self.free.release()

    async def run(self, context: Sequence[int], params: Sampling, seed: int, offset: int, tail: str) -> Generation:
        key = tuple(context)
        now = self.cache.setdefault(key, state(self.table, context))
        tokens: list[int] = []
        logprobs: list[float] = []
        entropies: list[float] = []
        finish = "length"
        while len(tokens) < params.max_tokens and finish == "length":
            await asyncio.sleep(0)
            if self.closed.is_set():
                raise RuntimeError("The policy was closed.")
            logits = self.table[1] @ now * 0.4
            token, logprob, entropy = self.draw(logits, params.temperature, seed, offset + len(tokens))
            tokens.append(token)
            logprobs.append(logprob)
            entropies.append(entropy)
            now = state(self.table, [token], now)
            if self.stopped(tokens, tail, params):
                finish = "stop"
        return Generation(tuple(tokens), tuple(logprobs), tuple(entropies), finish, self.version)  # type: ignore[arg-type]

    def draw(self, logits: np.ndarray, temperature: float, seed: int, position: int) -> tuple[int, float, float]:
        scaled = logits / (temperature or 1.0)
        logp = scaled - scaled.max() - np.log(np.exp(scaled - scaled.max()).sum())
        p = np.exp(logp)
        u = uniforms(np.array([seed], np.uint64), np.array([position], np.uint64))[0]
        token = int(logp.argmax()) if temperature == 0.0 else min(int(np.searchsorted(p.cumsum(), u, "right")), VOCABULARY - 1)
        return token, float(logp[token]), float(-(p * logp).sum())

    def stopped(self, tokens: list[int], tail: str, params: Sampling) -> bool:
        text = tail + decode(tokens)
        return tokens[-1] in params.stop_tokens or any(stop in text for stop in params.stop)

    async def load(self, new: Mapping[str, Any], version: int) -> None:
        self.table, self.version, self.cache = new["table"], version, {}

    async def close(self) -> None:
        self.closed.set()


class MoreEntropiesThanTokens(Healthy):
    async def run(self, *args: Any) -> Generation:
        out = await super().run(*args)
        return replace(out, entropies=(*out.entropies, 0.0))


class OneTooMany(Healthy):
    async def run(self, context: Any, params: Sampling, *args: Any) -> Generation:
        return await super().run(context, replace(params, max_tokens=params.max_tokens + 1), *args)


class EndsEarlyByLength(Healthy):
    async def run(self, context: Any, params: Sampling, *args: Any) -> Generation:
        return await super().run(context, replace(params, max_tokens=min(5, params.max_tokens)), *args)


class Reencodes(Healthy):
    async def run(self, context: Sequence[int], *args: Any) -> Generation:
        return await super().run([i if i < 128 else 63 for i in context], *args)


class AddsBeginning(Healthy):
    async def run(self, context: Sequence[int], *args: Any) -> Generation:
        return await super().run([*context, 1], *args)


class UndividedLogprobs(Healthy):
    def draw(self, logits: np.ndarray, temperature: float, seed: int, position: int) -> tuple[int, float, float]:
        token = super().draw(logits, temperature, seed, position)[0]
        logp = logits - np.log(np.exp(logits).sum())
        return token, float(logp[token]), float(-(np.exp(logp) * logp).sum())


class TopEntropies(Healthy):
    def draw(self, logits: np.ndarray, *args: Any) -> tuple[int, float, float]:
        token, logprob, _ = super().draw(logits, *args)
        logp = np.sort(logits - np.log(np.exp(logits).sum()))[-5:]
        return token, logprob, float(-(np.exp(logp) * logp).sum())


class NeverGreedy(Healthy):
    def draw(self, logits: np.ndarray, temperature: float, *args: Any) -> tuple[int, float, float]:
        return super().draw(logits, temperature or 1.0, *args)


class DropsStopToken(Healthy):
    async def run(self, *args: Any) -> Generation:
        out = await super().run(*args)
        stopped = out.finish == "stop" and out.tokens[-1] in args[1].stop_tokens and len(out.tokens) > 1
        return (
            replace(out, tokens=out.tokens[:-1], logprobs=out.logprobs[:-1], entropies=out.entropies[:-1]) if stopped else out
        )


class StopsInOneTokenOnly(Healthy):
    def stopped(self, tokens: list[int], tail: str, params: Sampling) -> bool:
        return super().stopped(tokens[-1:], "", params)


class StopsInTheContext(Healthy):
    async def run(self, context: Sequence[int], params: Sampling, seed: int, offset: int, tail: str) -> Generation:
        return await super().run(context, params, seed, offset, tail or decode(context[-3:]))


class ForgetsTheProbe(Healthy):
    def stopped(self, tokens: list[int], tail: str, params: Sampling) -> bool:
        return super().stopped(tokens, "", params)


class OneGenerator(Healthy):
    rng = np.random.default_rng(0)

    def draw(self, logits: np.ndarray, temperature: float, seed: int, position: int) -> tuple[int, float, float]:
        return super().draw(logits, temperature, int(self.rng.integers(1 << 30)), position)


class OneSeed(Healthy):
    def draw(self, logits: np.ndarray, temperature: float, seed: int, position: int) -> tuple[int, float, float]:
        return super().draw(logits, temperature, 1, position)


class StartsAgain(Healthy):
    async def run(self, context: Sequence[int], params: Sampling, seed: int, offset: int, tail: str) -> Generation:
        return await super().run(context, params, seed, 0, tail)


class DrawsByBatch(Healthy):
    def draw(self, logits: np.ndarray, temperature: float, seed: int, position: int) -> tuple[int, float, float]:
        return super().draw(logits, temperature, seed + (self.live > 4), position)


class RoundsByBatch(Healthy):
    """Beside others, the last bits are others."""

    async def run(self, *args: Any) -> Generation:
        out = await super().run(*args)
        return replace(out, logprobs=tuple(np.nextafter(one, -9.0) for one in out.logprobs)) if self.live > 1 else out


class RoundsByWhatIsKnown(Healthy):
    """What was computed the last time is not computed with the same shapes again."""

    last: tuple[int, ...] = ()

    async def run(self, context: Sequence[int], *args: Any) -> Generation:
        out = await super().run(context, *args)
        goes_on = len(context) >= len(self.last) > 0 and tuple(context[: len(self.last)]) == self.last
        self.last = (*context, *out.tokens)
        return replace(out, entropies=tuple(np.nextafter(one, 9.0) for one in out.entropies)) if goes_on else out


class MixesUpAnswers(Healthy):
    """Once there are many, each gets the answer of the one before."""

    last: Generation | None = None

    async def run(self, *args: Any) -> Generation:
        out = await super().run(*args)
        given = self.last if self.last is not None and self.live > 12 else out
        self.last = out
        return given


class ChokesOnHalfCharacters(Healthy):
    async def run(self, context: Sequence[int], params: Sampling, seed: int, offset: int, tail: str) -> Generation:
        if any(i >= 128 for i in context[len(context) - offset :]):
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return await super().run(context, params, seed, offset, tail)


class KeepsPlaces(Healthy):
    """A cancelled request never gives its place back."""

    async def generate(self, *args: Any, **kwargs: Any) -> Generation:
        await self.enter()
        self.check(args[0], args[1])
        out = await self.run(args[0], args[1], kwargs["seed"], kwargs["offset"], kwargs["tail"])
        self.leave()
        return out

    def check(self, context: Sequence[int], params: Sampling) -> None:
        try:
            super().check(context, params)
        except ConfigError:
            self.leave()
            raise


class DisturbsOthers(Healthy):
    """Every cancelled request makes those beside it and after it draw from another distribution."""

    promises = Promises(split=False, batch=False)
    lost = 0

    async def generate(self, *args: Any, **kwargs: Any) -> Generation:
        try:
            return await super().generate(*args, **kwargs)
        except asyncio.CancelledError:
            self.lost += 1
            raise

    def draw(self, logits: np.ndarray, *args: Any) -> tuple[int, float, float]:
        return super().draw(np.roll(logits, self.lost), *args)


class TakesAnything(Healthy):
    def check(self, context: Sequence[int], params: Sampling) -> None:
        pass


class ShortensSilently(Healthy):
    def check(self, context: Sequence[int], params: Sampling) -> None:
        super().check(context[: self.context_length // 2], params)


class RefusesWithoutReason(Healthy):
    def check(self, context: Sequence[int], params: Sampling) -> None:
        try:
            super().check(context, params)
        except ConfigError:
            raise ConfigError("No.") from None


class KeepsItsVersion(Healthy):
    async def load(self, new: Mapping[str, Any], version: int) -> None:
        await super().load(new, self.version)


class KeepsItsWeights(Healthy):
    async def load(self, new: Mapping[str, Any], version: int) -> None:
        self.version = version


class KeepsItsCache(Healthy):
    async def run(self, context: Sequence[int], *args: Any) -> Generation:
        known = max((key for key in self.cache if tuple(context[: len(key)]) == key), key=len, default=())
        if known:
            self.cache[tuple(context)] = state(self.table, context[len(known) :], self.cache[known])
        return await super().run(context, *args)

    async def load(self, new: Mapping[str, Any], version: int) -> None:
        self.table, self.version = new["table"], version


class KeepsBlocks(KeepsItsCache):
    """Remembers whole blocks of 128 tokens only, whatever the weights."""

    async def run(self, context: Sequence[int], *args: Any) -> Generation:
        whole = len(context) // 128 * 128
        known = self.cache.setdefault(tuple(context[:whole]), state(self.table, context[:whole]))
        self.cache[tuple(context)] = state(self.table, context[whole:], known)
        return await Healthy.run(self, context, *args)


class LeavesThemWaiting(Healthy):
    async def run(self, *args: Any) -> Generation:
        try:
            return await super().run(*args)
        except RuntimeError:
            await asyncio.sleep(3600)
            raise


class AnswersForEver(Healthy):
    async def close(self) -> None:
        pass


class LeavesLateOnesWaiting(Healthy):
    async def enter(self) -> None:
        await (asyncio.sleep(3600) if self.closed.is_set() else super().enter())


class ClosesOnce(Healthy):
    async def close(self) -> None:
        if self.closed.is_set():
            raise RuntimeError("It is closed already.")
        await super().close()


POLICY_FAULTS: list[tuple[Law, type[Healthy]]] = [
    (Law.SHAPES, MoreEntropiesThanTokens),
    (Law.LIMITS, OneTooMany),
    (Law.LIMITS, EndsEarlyByLength),
    (Law.EXACT_IDS, Reencodes),
    (Law.EXACT_IDS, AddsBeginning),
    (Law.LOGPROBS, UndividedLogprobs),
    (Law.ENTROPIES, TopEntropies),
    (Law.GREEDY, NeverGreedy),
    (Law.STOP_TOKENS, DropsStopToken),
    (Law.STOP_STRINGS, StopsInOneTokenOnly),
    (Law.STOP_STRINGS, StopsInTheContext),
    (Law.STOP_SEAM, ForgetsTheProbe),
    (Law.SEEDS, OneGenerator),
    (Law.SIBLINGS, OneSeed),
    (Law.SPLIT, StartsAgain),
    (Law.BATCH, DrawsByBatch),
    (Law.BITS, RoundsByBatch),
    (Law.BITS, RoundsByWhatIsKnown),
    (Law.LOAD, MixesUpAnswers),
    (Law.UNICODE, ChokesOnHalfCharacters),
    (Law.CANCEL, KeepsPlaces),
    (Law.CANCEL, DisturbsOthers),
    (Law.EMPTY, TakesAnything),
    (Law.TOO_LONG, ShortensSilently),
    (Law.TOO_LONG, RefusesWithoutReason),
    (Law.VERSION, KeepsItsVersion),
    (Law.WEIGHTS, KeepsItsWeights),
    (Law.STALE, KeepsItsCache),
    (Law.STALE, KeepsBlocks),
    (Law.CLOSE, LeavesThemWaiting),
    (Law.CLOSE, AnswersForEver),
    (Law.CLOSE, LeavesLateOnesWaiting),
    (Law.CLOSE, ClosesOnce),
]
