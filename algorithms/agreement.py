"""One probability: before a run, sampler, learner and the model's own forward pass are compared on random texts.

An ignored window, a rope that changes with the length, a neighbour's influence, a cache that is stale or one position off,
weights that did not arrive: none of it raises, and all of it trains on wrong probabilities. So nothing is looked up in a
list of models. Texts up to the longest context are drawn and scored in every way that a run does it, and each way must
agree with the model itself (`own`) up to rounding, which is measured on the same model.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from arpo_envs import ConfigError

from .learner import TorchLearner
from .models import own
from .policies import DTYPE, Policy, Sampling
from .tree import NO_PARENT, Node, RolloutTree, Status

ROOM = 4.0
"""How many measured roundings two ways may differ by. Correct ones stayed below 0.5 in 70 architectures; wrong ones are
thousands of times further off in float32, and about ten times in bfloat16."""
_DRAWN = 8
"""Tokens drawn, or scored, at the end of each text."""
_PASSES = 10
"""Forward passes that all texts but the longest amount to."""
_LEAST = 64
"""Length that the other texts may always have, in tokens."""


@dataclass(frozen=True)
class Way:
    """One way of computing log-probabilities.

    Args:
        name: one word.
        does: completes "the log-probabilities are off when …".
        remedies: what a user can do about it.
    """

    name: str
    does: str
    remedies: tuple[str, ...]


_OTHER_MODEL = ("train another model",)
_OTHER_ENGINE = ("draw with another engine (--engine vllm)", *_OTHER_MODEL)
ITSELF = Way("itself", "a text continues: the model changes the probabilities of its beginning", _OTHER_MODEL)
ROWS = Way("rows", "the learner scores texts of several lengths together", _OTHER_MODEL)
BLOCKS = Way(ROWS.name, f"{ROWS.does}, by FlexAttention", ("leave out --attention flex_attention", *_OTHER_MODEL))
ALONE = Way("alone", "the engine draws from one text", _OTHER_ENGINE)
FORKED = Way("forked", "the engine continues a cached prefix", _OTHER_ENGINE)
NEIGHBOURS = Way("neighbours", "the engine draws from several texts together", _OTHER_ENGINE)
LOADED = Way("loaded", "the engine has been given new weights", _OTHER_ENGINE)


@dataclass(frozen=True)
class Difference:
    """How far off one way was from the model itself.

    Args:
        way: which.
        nats: how far the log-probabilities of a text are off, root mean square, in the worst text; infinite if there are none.
        allowed: what rounding explains.
        tokens: of the longest text.
        error: what was raised instead of a number.
    """

    way: Way
    nats: float
    allowed: float
    tokens: int
    error: str = ""

    @property
    def fine(self) -> bool:
        """Whether the two agree."""
        return self.nats <= self.allowed


@dataclass(frozen=True)
class Agreement:
    """What the comparison found.

    Args:
        model: its type.
        differences: one for each way that was tried; the first that is not fine ends the comparison.
        unpacked: why trees are trained as flat rows; None if they are packed.
        agrees_up_to: length in tokens up to which the failing way is fine; 0 if none was found.
    """

    model: str
    differences: tuple[Difference, ...]
    unpacked: str | None
    agrees_up_to: int = 0

    @property
    def refusal(self) -> str | None:
        """Why the run would train on wrong probabilities, and what to do; None if all agree."""
        last = self.differences[-1]
        if last.fine:
            return None
        limit = (f"limit the context (--context-length {self.agrees_up_to})",) if self.agrees_up_to else ()
        advice = "; or ".join((*limit, *last.way.remedies))
        if last.error:
            return f"{self.model} cannot be trained here. Where {last.way.does}, it raises {last.error}. You can {advice}."
        agrees = f" They agree on texts of up to {self.agrees_up_to} tokens." if self.agrees_up_to else ""
        return (
            f"{self.model} cannot be trained here: log-probabilities are {last.nats:.2g} nats off where {last.way.does}, on "
            f"texts of up to {last.tokens} tokens; rounding explains {last.allowed:.1g}.{agrees} You can {advice}."
        )

    def __str__(self) -> str:
        """Returns the result in one line."""
        worst = max(self.differences, key=lambda one: one.nats / one.allowed)
        return (
            f"sampler, learner and model agree within {worst.nats:.1g} nats (rounding explains {worst.allowed:.1g}) on texts "
            f"of up to {worst.tokens} tokens"
        )


async def check(policy: Policy, learner: TorchLearner, *, engine_tolerance: float | None = None) -> Agreement:
    """Compares all ways, and refuses a policy or model that would train on wrong probabilities.

    The policy is briefly given other weights, then the learner's again; afterwards its cache is empty.

    Args:
        policy: idle, with the learner's weights.
        learner: its model is the same.
        engine_tolerance: nats that the engine may be off; by default what rounding in its precision explains.

    Raises:
        ConfigError: they do not agree; the message says where, by how much, and what to do.
    """
    found = await compare(policy, learner, engine_tolerance=engine_tolerance)
    if found.refusal is not None:
        raise ConfigError(found.refusal)
    return found


async def compare(policy: Policy, learner: TorchLearner, *, engine_tolerance: float | None = None) -> Agreement:
    """Returns what `check` compares; stops at the first way that does not agree."""
    texts = Texts.of(learner, policy, engine_tolerance)
    model_type = str(learner.model.config.model_type)
    ways: list[tuple[Way, Callable[[Texts], Awaitable[float]]]] = [
        (ITSELF, _itself),
        (ROWS if learner.config.attention == "as-loaded" else BLOCKS, _rows),
        (ALONE, partial(_drawn, policy, _alone)),
        (FORKED, partial(_drawn, policy, _forked)),
        (NEIGHBOURS, partial(_drawn, policy, _neighbours)),
        (LOADED, partial(_loaded, policy)),
    ]
    differences: list[Difference] = []
    for way, measure in ways:
        differences.append(await _difference(way, measure, texts))
        if not differences[-1].fine:
            up_to = 0 if differences[-1].error or way is LOADED else await _agrees_up_to(way, measure, texts)
            return Agreement(model_type, tuple(differences), None, up_to)
    return Agreement(model_type, tuple(differences), learner.why_not_packable(texts.others))


async def _difference(way: Way, measure: "Callable[[Texts], Awaitable[float]]", texts: "Texts") -> Difference:
    try:
        allowed = texts.allowed(way)
        nats = await measure(texts)
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001  # the model's or the engine's own code may raise anything
        reason = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(".: ")
        return Difference(way, math.inf, 0.0, texts.length, reason)
    return Difference(way, nats if math.isfinite(nats) else math.inf, allowed, texts.length)


async def _agrees_up_to(way: Way, measure: "Callable[[Texts], Awaitable[float]]", texts: "Texts") -> int:
    """Returns the greatest length at which a way is fine, found by halving; 0 if there is none."""
    low, high = 0, texts.length
    while high - low > 1 and high > 2 * _DRAWN + 2:
        middle = max(2 * _DRAWN + 2, (low + high) // 2)
        if (await _difference(way, measure, replace(texts, length=middle))).fine:
            low = middle
        else:
            high = middle
    return low


# --- the texts ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Texts:
    """Random texts for one model, and the model's own probabilities of them.

    Args:
        learner: has the model.
        length: tokens of the longest text.
        others: the longest that the other texts may be, in tokens: fewer for a large model.
        eps: relative size of a rounding in the least precise of the ways.
        engine_eps: the same for the engine.
        engine_tolerance: nats, or None.
        ids: tokens that may be used.
    """

    learner: TorchLearner
    length: int
    others: int
    eps: float
    engine_eps: float
    engine_tolerance: float | None
    ids: Sequence[int]
    _rounding: dict[tuple[int, float], float] = field(default_factory=dict)

    @classmethod
    def of(cls, learner: TorchLearner, policy: Policy, engine_tolerance: float | None) -> "Texts":
        """Returns the texts for a learner and the policy that draws for it."""
        model, config = learner.model, learner.model.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None) or policy.context_length
        length = min(policy.context_length, int(longest))
        if length < 4 * _DRAWN:
            raise ConfigError(f"A context of {length} tokens is too short for an episode; give at least {4 * _DRAWN}.")
        dtypes = [model.dtype, torch.bfloat16] if learner.config.autocast == "bfloat16" else [model.dtype]
        drawn_in = DTYPE.of(policy) or torch.bfloat16  # the least precise usual one, if the engine does not say
        eps = max(own.eps(dtype, model.device) for dtype in dtypes)
        return cls(
            learner,
            length,
            min(length, max(_LEAST, own.affordable(model, _PASSES))),
            eps,
            max(own.eps(dtype, model.device) for dtype in (model.dtype, drawn_in)),
            engine_tolerance,
            _usable_ids(model.config, min(policy.vocabulary_size, int(config.vocab_size))),
        )

    def text(self, number: int, length: int) -> list[int]:
        """Returns a random text; with the same number, a shorter text is the beginning of a longer one."""
        rng = np.random.default_rng(number)
        return [self.ids[i] for i in rng.integers(len(self.ids), size=self.length)[:length]]

    def part(self, share: float) -> int:
        """Returns a length for a text other than the longest."""
        return max(_DRAWN + 1, int(share * min(self.length, self.others)))

    def own(self, tokens: Sequence[int], places: Sequence[int] = ()) -> list[float]:
        """Returns the model's own log-probabilities of tokens of a text, by default the last ones, nats."""
        places = places or range(len(tokens) - _DRAWN, len(tokens))
        learner = self.learner
        return [float(logp) for logp in own.logprobs(learner.model, tokens, places, learner.temperature)]

    def allowed(self, way: Way) -> float:
        """Returns how far a way may be off, nats."""
        by_engine = way not in (ITSELF, ROWS, BLOCKS)
        if by_engine and self.engine_tolerance is not None:
            return self.engine_tolerance
        model = self.learner.model
        eps = self.engine_eps if by_engine else self.eps if way is not ITSELF else own.eps(model.dtype, model.device)
        length = min(self.length, self.others)
        if (length, eps) not in self._rounding:
            places = sorted({*np.linspace(1, length - 1, 64).astype(int).tolist()})
            self._rounding[length, eps] = own.rounding(model, self.text(0, length), places, eps, self.learner.temperature)
        return ROOM * max(self._rounding[length, eps], eps)  # a number near 1 is itself rounded


def _usable_ids(config: Any, size: int) -> list[int]:
    """Returns the ids that are only text: those a configuration names may mean an image, or padding."""
    named: set[int] = set()
    for part in (config, config.get_text_config()):
        for name, value in vars(part).items():
            if name.endswith(("_token_id", "_token_index")):
                named |= set(value) if isinstance(value, list) else {value}
    return [i for i in range(size) if i not in named]


def _apart(one: Any, other: Any) -> float:
    """Returns how far apart two are, root mean square: rounding moves single tokens far, a mistake moves all of them."""
    return float(np.sqrt(np.mean((np.asarray(one) - np.asarray(other)) ** 2)))


# --- the ways -------------------------------------------------------------------------------------------------


async def _itself(texts: Texts) -> float:
    """A text's probabilities must not change when it continues, or tokens would be trained with others than drawn with."""
    ends = sorted({max(2 * _DRAWN, end) for end in (texts.part(0.1), texts.part(0.5), texts.length // 2)})
    tokens = texts.text(0, texts.length)
    whole = texts.own(tokens, [place for end in ends for place in range(end - _DRAWN, end)])
    parts = [texts.own(tokens[:end]) for end in ends]
    return max(_apart(part, whole[i * _DRAWN : (i + 1) * _DRAWN]) for i, part in enumerate(parts))


async def _rows(texts: Texts) -> float:
    """The learner's rows, a long one together with shorter ones."""
    lengths = (texts.part(1.0), texts.part(0.5), texts.part(0.3), _DRAWN + 1)
    contexts = [texts.text(10 + number, length) for number, length in enumerate(lengths)]
    scored = texts.learner.logprobs([_row(tokens) for tokens in contexts])
    pairs = zip(scored, contexts, strict=True)
    return max(_apart(leaves[0][-_DRAWN:], texts.own(tokens)) for leaves, tokens in pairs)


def _row(tokens: Sequence[int]) -> RolloutTree:
    """Returns a tree of one path, whose last tokens count as drawn."""
    tree, zeros = RolloutTree(), (0.0,) * len(tokens)
    prompt = len(tokens) - _DRAWN
    tree.add(Node((), NO_PARENT, 0, "prompt", tuple(tokens[:prompt]), (False,) * prompt, zeros[:prompt], zeros[:prompt]))
    drawn, end = (tuple(tokens[prompt:]), (True,) * _DRAWN), {"status": Status.ANSWERED, "reward": 0.0}
    tree.add(Node((0,), 0, prompt, "action", *drawn, zeros[:_DRAWN], zeros[:_DRAWN], **end))  # type: ignore[arg-type]
    return tree.freeze()


Round = Sequence[Sequence[int]]
"""Contexts that are drawn from at the same time."""


def _alone(texts: Texts) -> list[Round]:
    return [[texts.text(1, texts.length - _DRAWN)]]


def _forked(texts: Texts) -> list[Round]:
    """Two forks of the text that was drawn from alone, one after the other, and then that text again."""
    forks = [texts.part(share) - _DRAWN for share in (0.9, 0.4)]
    return [[[*texts.text(1, max(1, at - 2)), *texts.text(2, 2)]] for at in forks] + _alone(texts)


def _neighbours(texts: Texts) -> list[Round]:
    """A long cached text, one half as long and two short ones that are not cached, and a fork: all at once."""
    fork = [*texts.text(1, texts.part(0.6)), *texts.text(3, 1)][: texts.length - _DRAWN]
    fresh = [texts.text(4, texts.part(0.5)), texts.text(5, 3), texts.text(6, 1)]
    return [[_alone(texts)[0][0], *fresh, fork]]


async def _drawn(policy: Policy, rounds: Callable[[Texts], list[Round]], texts: Texts) -> float:
    """Draws from each context, and compares with the model's own probabilities of the whole."""
    worst, seed = 0.0, 0
    params = Sampling(_DRAWN, temperature=texts.learner.temperature)
    for contexts in rounds(texts):
        asked = [policy.generate(context, params, seed=seed + number) for number, context in enumerate(contexts)]
        seed += len(contexts)
        for context, out in zip(contexts, await asyncio.gather(*asked), strict=True):
            if rounds is _alone or len(context) <= texts.others:  # slow ones are compared once
                whole = [*context, *out.tokens]
                worst = max(worst, _apart(out.logprobs, texts.own(whole, range(len(context), len(whole)))))
    return worst


async def _loaded(policy: Policy, texts: Texts) -> float:
    """Draws with other weights what was drawn before: an engine with a stale cache, or only some new weights, is off."""
    learner, version = texts.learner, policy.version
    try:
        with _changed(learner.model):
            await policy.load(learner.weights(), version)
            return await _drawn(
                policy, lambda texts: [*_forked(texts), *_neighbours(texts)], replace(texts, length=texts.others)
            )
    finally:
        await policy.load(learner.weights(), version)


@contextmanager
def _changed(model: Any) -> Iterator[None]:
    """Gives a model other weights for as long as the context lasts: other embeddings, and adapters with an effect."""
    embedding = model.get_input_embeddings().weight
    adapters = [tensor for name, tensor in model.named_parameters() if "lora_B" in name or "lora_embedding_B" in name]
    kept = [tensor.detach().clone() for tensor in adapters]
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        embedding.copy_(embedding.roll(1, 0))
        for tensor in adapters:
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=draws))
    try:
        yield
    finally:
        with torch.no_grad():
            embedding.copy_(embedding.roll(-1, 0))
            for tensor, before in zip(adapters, kept, strict=True):
                tensor.copy_(before)
