"""The ways in which a run computes log-probabilities, each measured against the model itself."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...policies import Policy, Sampling
from ...tree import NO_PARENT, Node, RolloutTree, Status
from .texts import DRAWN, Compared, Texts


async def itself(texts: Texts) -> float:
    """A text's probabilities must not change when it continues, or tokens would be trained with others than drawn with."""
    ends = sorted({max(2 * DRAWN, end) for end in (texts.part(0.1), texts.part(0.5), texts.length // 2)})
    tokens = texts.text(0, texts.length)
    whole = texts.own(tokens, [place for end in ends for place in range(end - DRAWN, end)])
    parts = [texts.own(tokens[:end]) for end in ends]
    return max(_apart(part, whole[i * DRAWN : (i + 1) * DRAWN]) for i, part in enumerate(parts))


async def rows(learner: Compared, texts: Texts) -> float:
    """The learner's rows, a long one together with shorter ones."""
    lengths = (texts.part(1.0), texts.part(0.5), texts.part(0.3), DRAWN + 1)
    contexts = [texts.text(10 + number, length) for number, length in enumerate(lengths)]
    scored = learner.logprobs([_row(tokens) for tokens in contexts])
    pairs = zip(scored, contexts, strict=True)
    return max(_apart(leaves[0][-DRAWN:], texts.own(tokens)) for leaves, tokens in pairs)


def _row(tokens: Sequence[int]) -> RolloutTree:
    """Returns a tree of one path, whose last tokens count as drawn."""
    tree, zeros = RolloutTree(), (0.0,) * len(tokens)
    prompt = len(tokens) - DRAWN
    tree.add(Node((), NO_PARENT, 0, "prompt", tuple(tokens[:prompt]), (False,) * prompt, zeros[:prompt], zeros[:prompt]))
    drawn, end = (tuple(tokens[prompt:]), (True,) * DRAWN), {"status": Status.ANSWERED, "reward": 0.0}
    tree.add(Node((0,), 0, prompt, "action", *drawn, zeros[:DRAWN], zeros[:DRAWN], **end))  # type: ignore[arg-type]
    return tree.freeze()


Round = Sequence[Sequence[int]]
"""Contexts that are drawn from at the same time."""


def alone(texts: Texts) -> list[Round]:
    """One text, without any other."""
    return [[texts.text(1, texts.length - DRAWN)]]


def forked(texts: Texts) -> list[Round]:
    """Two forks of the text that was drawn from alone, one after the other, and then that text again."""
    forks = [texts.part(share) - DRAWN for share in (0.9, 0.4)]
    return [[[*texts.text(1, max(1, at - 2)), *texts.text(2, 2)]] for at in forks] + alone(texts)


def neighbours(texts: Texts) -> list[Round]:
    """A long cached text, one half as long and two short ones that are not cached, and a fork: all at once."""
    fork = [*texts.text(1, texts.part(0.6)), *texts.text(3, 1)][: texts.length - DRAWN]
    fresh = [texts.text(4, texts.part(0.5)), texts.text(5, 3), texts.text(6, 1)]
    return [[alone(texts)[0][0], *fresh, fork]]


async def drawn(policy: Policy, rounds: Callable[[Texts], list[Round]], texts: Texts) -> float:
    """Draws from each context, and compares with the model's own probabilities of the whole."""
    worst, seed = 0.0, 0
    params = Sampling(DRAWN, temperature=texts.temperature)
    for contexts in rounds(texts):
        asked = [policy.generate(context, params, seed=seed + number) for number, context in enumerate(contexts)]
        seed += len(contexts)
        for context, out in zip(contexts, await asyncio.gather(*asked), strict=True):
            if rounds is alone or len(context) <= texts.others:  # slow ones are compared once
                whole = [*context, *out.tokens]
                worst = max(worst, _apart(out.logprobs, texts.own(whole, range(len(context), len(whole)))))
    return worst


async def loaded(policy: Policy, learner: Compared, texts: Texts) -> float:
    """Draws with other weights what was drawn before: an engine with a stale cache, or only some new weights, is off."""
    version = policy.version
    try:
        with learner.own.changed():
            await policy.load(learner.weights(), version)
            return await drawn(policy, lambda texts: [*forked(texts), *neighbours(texts)], replace(texts, length=texts.others))
    finally:
        await policy.load(learner.weights(), version)


def _apart(one: Any, other: Any) -> float:
    """Returns how far apart two are, root mean square: rounding moves single tokens far, a mistake moves all of them."""
    return float(np.sqrt(np.mean((np.asarray(one) - np.asarray(other)) ** 2)))
