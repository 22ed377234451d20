"""What the laws of policies work with: a policy, its reference, and contexts."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from arpo_envs.testing import SkippedLaw

from ..policies import Generation, Policy, Sampling

T = TypeVar("T")
Array = NDArray[np.float64]

Logits = Callable[[Sequence[int]], Any]
"""(ids [T]) -> logits [T, V], anything NumPy can read: row t belongs to the token after ids[: t + 1]."""


@dataclass(frozen=True)
class Promises:
    """What a backend promises beyond the contract's core; what is not promised is not checked.

    Args:
        split: generate(k) and then the rest equals one call.
        batch: a result does not depend on the batch it is computed in, but for rounding.
        bits: nor does its rounding, on what else is computed or was before.
        greedy_ties: nats by which a greedy token may be less likely than the likeliest one.
        entropy_slack: nats by which a reported entropy may differ; large where the backend sums the top k only.
        logprob_slack: nats by which a reported log-probability may differ; 1e-4 in float32.
    """

    split: bool = True
    batch: bool = True
    bits: bool = False
    greedy_ties: float = 1e-4
    entropy_slack: float = 1e-4
    logprob_slack: float = 1e-4


@dataclass(frozen=True)
class Bench:
    """A policy under test.

    Args:
        policy: what is checked.
        reference: logits of the model it should be, if available.
        other: other weights for `load`, if there are any.
        other_reference: logits of the model with the other weights.
        encode: text to ids.
        decode: ids to text, as stop strings are matched.
        promises: what else is promised.
        most: exclusive upper bound of the ids in random contexts.
        capacity: how many requests are made at once; if possible more than the backend can serve together.
        timeout: seconds any answer may take.
        draws: how many tokens are drawn to test their distribution.
    """

    policy: Policy
    reference: Logits | None
    other: Mapping[str, Any] | None
    other_reference: Logits | None
    encode: Callable[[str], Sequence[int]]
    decode: Callable[[Sequence[int]], str]
    promises: Promises
    most: int
    capacity: int
    timeout: float
    draws: int

    # --- contexts -----------------------------------------------------------------------------------

    def text_context(self, number: int = 0) -> list[int]:
        """Returns a context that is the encoding of a text; other numbers give other texts."""
        return list(self.encode(f"Question {number}: which city lies on the river? Think, then answer.\n"))

    def random_context(self, number: int, length: int = 24) -> list[int]:
        """Returns random ids, which are in general no text's encoding."""
        ids: list[int] = np.random.default_rng(number).integers(0, self.most, size=length).tolist()
        return ids

    # --- asking -------------------------------------------------------------------------------------

    async def within(self, work: Awaitable[T]) -> T:
        """Waits for something, but not forever."""
        async with asyncio.timeout(self.timeout):
            return await work

    async def ask(
        self, context: Sequence[int], tokens: int = 12, *, seed: int = 1, temperature: float = 1.0, offset: int = 0,
        tail: str = "", **stops: Any,
    ) -> Generation:  # fmt: skip
        """Makes one request."""
        params = Sampling(tokens, temperature, **stops)
        return await self.within(self.policy.generate(list(context), params, seed=seed, offset=offset, tail=tail))

    async def ask_all(self, requests: Sequence[Mapping[str, Any]]) -> list[Generation]:
        """Makes requests at the same time; each is a mapping of the arguments of `ask`."""
        return list(await asyncio.gather(*(self.ask(**request) for request in requests)))

    # --- expected results ---------------------------------------------------------------------------

    def expected(self, context: Sequence[int], drawn: Generation, temperature: float, reference: Logits | None = None) -> Array:
        """Returns the reference's log-probabilities [T, V] for each drawn token.

        Raises:
            SkippedLaw: there is no reference.
        """
        model = reference or self.reference
        if model is None:
            raise SkippedLaw("no reference was given")
        logits_TV = np.asarray(model([*context, *drawn.tokens]), dtype=np.float64)[len(context) - 1 : -1]
        return log_softmax(logits_TV / (temperature or 1.0))

    def chosen(self, context: Sequence[int], drawn: Generation, temperature: float, reference: Logits | None = None) -> Array:
        """Returns the reference's log-probability of each drawn token, [T]."""
        logp_TV = self.expected(context, drawn, temperature, reference)
        chosen_T: Array = logp_TV[np.arange(len(drawn.tokens)), list(drawn.tokens)]
        return chosen_T


def log_softmax(logits_TV: Array) -> Array:
    """Returns log-probabilities over the last axis."""
    shifted_TV = logits_TV - logits_TV.max(axis=-1, keepdims=True)
    logp_TV: Array = shifted_TV - np.log(np.exp(shifted_TV).sum(axis=-1, keepdims=True))
    return logp_TV


def as_logits(model: Any) -> Logits:
    """Returns a callable that gives logits: the argument, unless it is a `transformers` model."""
    if not hasattr(model, "config"):
        return model  # type: ignore[no-any-return]

    import torch

    def logits(ids: Sequence[int]) -> Any:
        with torch.inference_mode():
            return model(input_ids=torch.tensor([list(ids)], device=model.device)).logits[0].double().cpu().numpy()

    return logits
