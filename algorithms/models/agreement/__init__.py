"""One probability: before a run, sampler, learner and the model's own forward pass are compared on random texts.

An ignored window, a rope that changes with the length, a neighbour's influence, a cache that is stale or one position off,
weights that did not arrive: none of it raises, and all of it trains on wrong probabilities. So nothing is looked up in a
list of models. Texts up to the longest context are drawn and scored in every way that a run does it, and each way must
agree with the model itself (`own`) up to rounding, which is measured on the same model.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from arpo_envs import ConfigError

from ...policies import Policy
from ...policies.served import ServerFault
from ..own import OwnModel
from . import ways
from .found import ALONE, BLOCKS, FORKED, ITSELF, LOADED, NEIGHBOURS, ROWS, Agreement, Difference, Way
from .probe import Arrival, WeightProbe, WeightsDiffer
from .texts import DRAWN, Compared, Texts

__all__ = [
    "Agreement",
    "Arrival",
    "Difference",
    "Way",
    "WeightProbe",
    "WeightsDiffer",
    "compare",
    "require_agreement",
    "require_engine",
]

Measure = Callable[[Texts], Awaitable[float]]
"""Returns how far one way is off, nats."""
Allowed = Callable[[Texts], float]
"""Returns how far it may be off, nats."""


async def require_agreement(policy: Policy, learner: Compared, *, engine_tolerance: float | None = None) -> Agreement:
    """Compares all ways, and refuses a policy or model that would train on wrong probabilities.

    The policy is briefly given other weights, then the learner's again; afterwards its cache is empty.

    Args:
        policy: idle, with the learner's weights.
        learner: its model is the same.
        engine_tolerance: nats that the engine may be off; by default what rounding in its precision explains.

    Raises:
        ConfigError: they do not agree; the message says where, by how much, and what to do.
        ServerFault: an engine was lost, or does not answer.
    """
    return _required(await compare(policy, learner, engine_tolerance=engine_tolerance))


async def require_engine(policy: Policy, model: Any) -> Agreement:
    """Compares what a policy draws with the model's own probabilities, where nothing is trained.

    Args:
        policy: idle; afterwards its cache is empty.
        model: has the policy's weights.

    Raises:
        ConfigError: they do not agree; the message says where, by how much, and what to do.
    """
    found = await _compared(Texts.of(OwnModel(model), policy), _by_engine(policy))
    return _required(replace(found, verb="evaluate"))


async def compare(policy: Policy, learner: Compared, *, engine_tolerance: float | None = None) -> Agreement:
    """Returns what `require_agreement` compares; stops at the first way that does not agree."""
    texts = Texts.between(policy, learner, engine_tolerance=engine_tolerance)
    by_rows = ROWS if learner.config.attention == "as-loaded" else BLOCKS
    found = await _compared(
        texts,
        [
            (ITSELF, ways.itself, Texts.allowed_to_itself),
            (by_rows, partial(ways.rows, learner), Texts.allowed_to_learner),
            *_by_engine(policy),
            (LOADED, partial(ways.loaded, policy, learner), Texts.allowed_to_engine),
        ],
    )
    return found if found.refusal is not None else replace(found, unpacked=learner.why_not_packable(texts.others))


def _by_engine(policy: Policy) -> list[tuple[Way, Measure, Allowed]]:
    rounds = ((ALONE, ways.alone), (FORKED, ways.forked), (NEIGHBOURS, ways.neighbours))
    return [(way, partial(ways.drawn, policy, contexts), Texts.allowed_to_engine) for way, contexts in rounds]


def _required(found: Agreement) -> Agreement:
    if found.refusal is not None:
        raise ConfigError(found.refusal)
    return found


async def _compared(texts: Texts, tried: Sequence[tuple[Way, Measure, Allowed]]) -> Agreement:
    """Returns the differences up to the first way that does not agree."""
    model_type = str(texts.model.config.model_type)
    differences: list[Difference] = []
    for way, measure, allowed in tried:
        differences.append(await _difference(way, measure, allowed, texts))
        if not differences[-1].fine:
            searched = not differences[-1].error and way is not LOADED
            up_to = await _agrees_up_to(way, measure, allowed, texts) if searched else 0
            return Agreement(model_type, tuple(differences), None, up_to)
    return Agreement(model_type, tuple(differences), None)


async def _difference(way: Way, measure: Measure, allowed: Allowed, texts: Texts) -> Difference:
    try:
        room = allowed(texts)
        nats = await measure(texts)
    except (ConfigError, ServerFault):  # a server's fault says nothing of how it computes
        raise
    except Exception as error:  # noqa: BLE001  # the model's or the engine's own code may raise anything
        reason = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(".: ")
        return Difference(way, math.inf, 0.0, texts.length, reason)
    return Difference(way, nats if math.isfinite(nats) else math.inf, room, texts.length)


async def _agrees_up_to(way: Way, measure: Measure, allowed: Allowed, texts: Texts) -> int:
    """Returns the greatest length at which a way is fine, found by halving; 0 if there is none."""
    low, high = 0, texts.length
    while high - low > 1 and high > 2 * DRAWN + 2:
        middle = max(2 * DRAWN + 2, (low + high) // 2)
        if (await _difference(way, measure, allowed, replace(texts, length=middle))).fine:
            low = middle
        else:
            high = middle
    return low
