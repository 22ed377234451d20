"""One version: while a run trains, every engine's log-probabilities are compared with the learner's after an update.

An update can succeed and change nothing, or only a part: engines repack their weights, hold a tied matrix twice, or quantise
what they are given. None of it raises, and all of it draws with old weights. So the engine draws from a few random texts before
and after, and what it says of its tokens must move as what the learner says of them does.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arpo_envs import ArpoError

from ...policies import ENGINES, FORGET, MODEL, Generation, Policy, Sampling
from ...policies.served import ServerFault
from .texts import DRAWN, Compared, Texts

Array = NDArray[np.float64]

_LENGTHS = (9, 17, 33, 56)
"""Tokens of the texts that are drawn from."""
_POWER = 2.0
"""How many times what rounding explains a change must be, to tell whether it arrived."""
_STAYED = 0.1
"""The engine has not moved if it followed less than this share of the learner's change; rounding may be the rest."""


class WeightsDiffer(ArpoError):
    """An engine draws with other weights than those it was given last."""


@dataclass(frozen=True)
class Drawn:
    """What an engine drew from the texts. B texts, T tokens drawn from each.

    Args:
        version: of its weights, as it says.
        texts: [B], each with the tokens drawn at its end.
        engine_BT: the engine's log-probabilities of these tokens, nats.
        learner_BT: the learner's.
    """

    version: int
    texts: tuple[tuple[int, ...], ...]
    engine_BT: Array
    learner_BT: Array

    @property
    def token_BT(self) -> NDArray[np.int64]:
        """The tokens drawn."""
        return np.array([text[-DRAWN:] for text in self.texts])


@dataclass(frozen=True)
class Arrival:
    """Whether new weights arrived at one engine.

    Args:
        nats: how far its log-probabilities are off the learner's, root mean square, in the worst text.
        allowed: what rounding explains.
        moved: how far the learner's own have moved since weights were last seen to arrive, likewise.
        share: of that change, what the engine's show; None where it is too small, or too large, to be followed.
        seen: whether the engine's tensors themselves were seen to be the learner's.
    """

    nats: float
    allowed: float
    moved: float
    share: float | None
    seen: bool = False

    @property
    def fine(self) -> bool:
        """Whether the engine may have the learner's weights."""
        return self.nats <= self.allowed and (self.share is None or self.share >= 0.5)

    @property
    def known(self) -> bool:
        """Whether an engine that kept its old weights would have been found."""
        return not self.fine or self.seen or self.share is not None or self.moved >= _POWER * self.allowed


def judge(before: Drawn | None, now: Drawn, again_BT: Array | None, allowed: float) -> Arrival:
    """Returns whether new weights arrived.

    Where the engine drew the same tokens before and after, the share of the learner's change that it shows is the slope of its
    own change: 0 if it kept its weights, 1 if it has the new ones. Its error falls with the number of tokens, so this finds
    what is too small for single differences.

    Args:
        before: what the engine drew with weights that had arrived; None if nobody knows.
        now: what it draws with those to examine.
        again_BT: the learner's present log-probabilities of the tokens drawn before, nats.
        allowed: what rounding explains, nats.

    >>> old = Drawn(0, ((1, *range(8)),), np.full((1, 8), -1.0), np.full((1, 8), -1.0))
    >>> new_BT = np.full((1, 8), -1.5)
    >>> arrived = judge(old, Drawn(1, old.texts, new_BT, new_BT), new_BT, 0.01)
    >>> arrived.fine, arrived.moved, round(arrived.share, 3)
    (True, 0.5, 1.0)
    >>> judge(old, Drawn(1, old.texts, old.engine_BT, new_BT), new_BT, 0.01).fine
    False
    """
    nats = _worst(now.engine_BT - now.learner_BT)
    if before is None or again_BT is None:
        return Arrival(nats, allowed, 0.0, None)
    moved_BT = again_BT - before.learner_BT
    same_BT = np.cumprod(before.token_BT == now.token_BT, axis=1).astype(bool)  # later ones have other contexts
    learner, engine = moved_BT[same_BT], (now.engine_BT - before.engine_BT)[same_BT]
    size = float(np.linalg.norm(learner))
    share = float(engine @ learner) / size**2 if size >= _POWER * allowed else None
    return Arrival(nats, allowed, _worst(moved_BT), share)


def _worst(apart_BT: Array) -> float:
    """Returns the root mean square of the worst row."""
    return float(np.sqrt((apart_BT**2).mean(axis=1)).max())


class WeightProbe:
    """Tells whether new weights arrived at every engine of a policy.

    It draws with seeds of its own, and afterwards the policy's cache is empty, so a run does not notice it.

    Args:
        policy: idle whenever this is used.
        learner: whose weights the policy gets.
        engine_tolerance: nats that the engine may be off; by default what rounding in its precision explains.

    Raises:
        ConfigError: the context is too short for an episode.
    """

    def __init__(self, policy: Policy, learner: Compared, *, engine_tolerance: float | None = None) -> None:
        self._policy, self._learner = policy, learner
        self._texts = Texts.between(policy, learner, engine_tolerance=engine_tolerance)
        self._known: Mapping[str, Drawn] = {}
        self._exact: frozenset[str] = frozenset()
        """The engines that compute as exactly as the learner's model, whatever they say of their precision."""
        self._old: torch.Tensor | None = None
        """The matrix that embedding and head share, of the weights that were last seen to arrive."""

    async def begin(self) -> None:
        """Remembers what the engines draw now, and requires the learner's weights of each: `require_agreement` asks only one.

        Raises:
            WeightsDiffer: one of them has others; later its change would be measured from these.
        """
        drawn, texts = await self._drawn(), self._short()
        exactly = texts.allowed_to_itself()
        self._exact = frozenset(name for name, now in drawn.items() if judge(None, now, None, exactly).fine)
        for name, now in drawn.items():
            if name not in self._exact:
                self._require_fine(name, now, judge(None, now, None, texts.allowed_to_engine()))
        self._remember(drawn)

    async def require(self) -> list[Arrival]:
        """Returns how new weights arrived, for each engine; those that cannot be reached are left out.

        If all were seen to arrive, they become what the next ones are compared with.

        Raises:
            WeightsDiffer: they did not arrive at one of them; the message says which, and what differs.
        """
        drawn, texts = await self._drawn(), self._short()
        allowed = {True: texts.allowed_to_itself, False: texts.allowed_to_engine}
        found = {name: self._judged(name, now, allowed[name in self._exact]()) for name, now in drawn.items()}
        for name, arrival in found.items():
            self._require_fine(name, drawn[name], arrival)
        if all(arrival.known or name not in self._known for name, arrival in found.items()):
            self._remember(drawn)
        return list(found.values())

    def _short(self) -> Texts:
        """Returns texts as long as those that are drawn from, to measure rounding on."""
        return self._texts.short(_LENGTHS[-1] + DRAWN)

    def _judged(self, name: str, now: Drawn, allowed: float) -> Arrival:
        before = self._known.get(name)
        found = judge(before, now, self._own(before.texts) if before is not None else None, allowed)
        return found if found.known else replace(found, seen=self._strange() == [])

    def _remember(self, drawn: Mapping[str, Drawn]) -> None:
        self._known = {**self._known, **drawn}
        if ends := _tied(self._learner.own.model):
            self._old = ends[0].weight.detach().clone()

    async def _drawn(self) -> dict[str, Drawn]:
        """Returns what each engine draws."""
        found: dict[str, Drawn] = {}
        longest = self._texts.length - DRAWN
        contexts = [self._texts.text(100 + i, min(length, longest)) for i, length in enumerate(_LENGTHS)]
        params = Sampling(DRAWN, temperature=self._texts.temperature)
        for name, generate in (ENGINES.of(self._policy)() or {"": self._policy.generate}).items():
            try:
                drawn = await _together(generate(context, params, seed=seed) for seed, context in enumerate(contexts))
            except ServerFault:
                continue  # it is not drawn from until it is back and has the weights
            texts = tuple((*context, *one.tokens) for context, one in zip(contexts, drawn, strict=True))
            engine_BT = np.array([one.logprobs for one in drawn])
            found[name] = Drawn(drawn[0].version, texts, engine_BT, self._own(texts))
        await FORGET.of(self._policy)()
        return found

    def _own(self, texts: Sequence[Sequence[int]]) -> Array:
        """Returns the learner's log-probabilities of the last tokens, [B, T], nats."""
        return np.array([self._texts.own(text) for text in texts])

    # --- what differs -----------------------------------------------------------------------------------------

    def _require_fine(self, name: str, now: Drawn, arrival: Arrival) -> None:
        """Says what differs, and what to do, if weights did not arrive."""
        if arrival.fine:
            return
        who = f"The engine{f' at {name}' if name else ''}"
        raise WeightsDiffer(
            f"{who} does not draw with the learner's weights of step {now.version}: {self._differs(name, now, arrival)}. "
            f"Log-probabilities are {arrival.nats:.2g} nats off; rounding explains {arrival.allowed:.1g}. The learner's own "
            f"weights are whole. Start the engine anew, and continue; if it happens again, use another engine (--engine)."
        )

    def _differs(self, name: str, now: Drawn, arrival: Arrival) -> str:
        before = self._known.get(name)
        since = f"step {before.version}" if before is not None else "before"
        if where := self._old_ends(now, arrival.allowed):
            return f"the matrix that embedding and head share did not arrive in the {where}, where it is still that of {since}"
        if arrival.share is not None and abs(arrival.share) < _STAYED:
            return f"it still draws with those of {since}"
        strange = self._strange()
        if strange is None and before is None:
            return "they, or a part of them, did not arrive"
        if strange is None:
            return "a part of them did not arrive, or not in its place"
        if strange:
            return f"{len(strange)} of its tensors did not arrive, the first of them {strange[0]}"
        return "all its tensors are the learner's, so it computes with something that it kept from older ones"

    def _strange(self) -> list[str] | None:
        """Returns which of the engine's tensors are not the learner's; None if they are out of reach."""
        model = MODEL.of(self._policy)
        if model is None:
            return None
        there, missing = model.state_dict(), torch.empty(0)
        here = self._learner.weights().items()
        return [name for name, tensor in here if not torch.equal((own := there.get(name, missing)), tensor.to(own))]

    def _old_ends(self, now: Drawn, allowed: float) -> str:
        """Returns in which of two tied modules the old matrix explains what the engine draws, in words; "" if in none."""
        ends = _tied(self._learner.own.model)
        if ends and self._old is not None:
            for where, modules in (("embedding", ends[:1]), ("head", ends[1:]), ("embedding and the head", ends)):
                with _holding(modules, self._old):
                    if _worst(now.engine_BT - self._own(now.texts)) <= allowed:
                        return where
        return ""


async def _together(asked: Iterable[Awaitable[Generation]]) -> list[Generation]:
    """Returns what was drawn, or raises the first error, once nothing is under way any more."""
    tasks = [asyncio.ensure_future(one) for one in asked]
    await asyncio.gather(*tasks, return_exceptions=True)
    return [task.result() for task in tasks]


def _tied(model: Any) -> list[Any]:
    """Returns embedding and head of a model if they share one matrix; nothing for one that lies elsewhere."""
    if model is None:
        return []
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    return ends if None not in ends and ends[0].weight is ends[1].weight else []


@contextmanager
def _holding(modules: Sequence[Any], matrix: torch.Tensor) -> Iterator[None]:
    """Gives modules another weight for as long as the context lasts."""
    own = [module.weight for module in modules]
    for module in modules:
        module.weight = torch.nn.Parameter(matrix, requires_grad=False)
    try:
        yield
    finally:
        for module, weight in zip(modules, own, strict=True):
            module.weight = weight
