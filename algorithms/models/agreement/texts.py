"""Random texts for one model, and the model's own probabilities of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from arpo_envs import ConfigError

from ...learner import LearnerConfig
from ...policies import DTYPE, Policy
from ...tree import RolloutTree
from .. import own
from ..own import OwnModel

DRAWN = 8
"""Tokens drawn, or scored, at the end of each text."""
_ROOM = 4.0
"""How many measured roundings two ways may differ by. Correct ones stayed below 0.5 in 70 architectures; wrong ones are
thousands of times further off in float32, and about ten times in bfloat16."""
_PASSES = 10
"""Forward passes that all texts but the longest amount to."""
_LEAST = 64
"""Length that the other texts may always have, in tokens."""


class Compared(Protocol):
    """What is asked of a learner, whose model may lie elsewhere; see `TorchLearner`."""

    config: LearnerConfig
    temperature: float
    own: OwnModel

    def logprobs(self, trees: Sequence[RolloutTree]) -> tuple[tuple[NDArray[np.float64], ...], ...]:
        """Returns log-probabilities of each leaf's tokens."""
        ...

    def why_not_packable(self, length: int) -> str | None:
        """Returns why trees are trained as flat rows."""
        ...

    def weights(self) -> Mapping[str, Any]:
        """Returns the weights for the policy."""
        ...


@dataclass(frozen=True)
class Texts:
    """Random texts for one model, and the model's own probabilities of them.

    Args:
        model: a causal language model, wherever it lies.
        temperature: at which all log-probabilities are taken.
        length: tokens of the longest text.
        others: the longest that the other texts may be, in tokens: fewer for a large model.
        eps: relative size of a rounding in the learner.
        engine_eps: the same for the engine.
        engine_tolerance: nats, or None.
        ids: tokens that may be used.
    """

    model: OwnModel
    temperature: float
    length: int
    others: int
    eps: float
    engine_eps: float
    engine_tolerance: float | None
    ids: Sequence[int]
    _rounding: dict[tuple[int, float], float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: OwnModel,
        policy: Policy,
        *,
        temperature: float = 1.0,
        autocast: torch.dtype | None = None,
        engine_tolerance: float | None = None,
    ) -> "Texts":
        """Returns the texts for a model and the policy that draws from it.

        Args:
            model: a causal language model, wherever it lies.
            policy: has the same weights.
            temperature: at which all log-probabilities are taken.
            autocast: the precision a learner computes in, where it is not the model's.
            engine_tolerance: nats that the engine may be off, or None.

        Raises:
            ConfigError: the context is too short for an episode.
        """
        config = model.config.get_text_config()
        longest = getattr(config, "max_position_embeddings", None) or policy.context_length
        length = min(policy.context_length, int(longest))
        if length < 4 * DRAWN:
            raise ConfigError(f"A context of {length} tokens is too short for an episode; give at least {4 * DRAWN}.")
        drawn_in = DTYPE.of(policy) or torch.bfloat16  # the least precise usual one, if the engine does not say
        return cls(
            model,
            temperature,
            length,
            min(length, max(_LEAST, model.affordable(_PASSES))),
            max(own.eps(dtype, model.device) for dtype in (model.dtype, autocast or model.dtype)),
            max(own.eps(dtype, model.device) for dtype in (model.dtype, drawn_in)),
            engine_tolerance,
            _usable_ids(model.config, min(policy.vocabulary_size, int(config.vocab_size))),
        )

    @classmethod
    def between(cls, policy: Policy, learner: Compared, *, engine_tolerance: float | None = None) -> "Texts":
        """Returns the texts on which a learner and the policy that draws for it are compared; see `of`."""
        autocast = torch.bfloat16 if learner.config.autocast == "bfloat16" else None
        temperature = learner.temperature
        return cls.of(learner.own, policy, temperature=temperature, autocast=autocast, engine_tolerance=engine_tolerance)

    def short(self, length: int) -> "Texts":
        """Returns texts of at most this many tokens; rounding is measured anew, as it changes while a model is trained."""
        return replace(self, length=min(length, self.length), _rounding={})

    def text(self, number: int, length: int) -> list[int]:
        """Returns a random text; with the same number, a shorter text is the beginning of a longer one."""
        rng = np.random.default_rng(number)
        return [self.ids[i] for i in rng.integers(len(self.ids), size=self.length)[:length]]

    def part(self, share: float) -> int:
        """Returns a length for a text other than the longest."""
        return max(DRAWN + 1, int(share * min(self.length, self.others)))

    def own(self, tokens: Sequence[int], places: Sequence[int] = ()) -> list[float]:
        """Returns the model's own log-probabilities of tokens of a text, by default the last ones, nats."""
        places = places or range(len(tokens) - DRAWN, len(tokens))
        return self.model.logprobs(tokens, places, self.temperature)

    def allowed_to_itself(self) -> float:
        """Returns how far the model's own passes may be apart, nats."""
        return self._allowed(own.eps(self.model.dtype, self.model.device))

    def allowed_to_learner(self) -> float:
        """Returns how far a learner may be off, nats."""
        return self._allowed(self.eps)

    def allowed_to_engine(self) -> float:
        """Returns how far an engine may be off, nats."""
        return self._allowed(self.engine_eps) if self.engine_tolerance is None else self.engine_tolerance

    def _allowed(self, eps: float) -> float:
        length = min(self.length, self.others)
        if (length, eps) not in self._rounding:
            places = sorted({*np.linspace(1, length - 1, 64).astype(int).tolist()})
            self._rounding[length, eps] = self.model.rounding(self.text(0, length), places, eps, self.temperature)
        return _ROOM * max(self._rounding[length, eps], eps)  # a number near 1 is itself rounded


def _usable_ids(config: Any, size: int) -> list[int]:
    """Returns the ids that are only text: those a configuration names may mean an image, or padding."""
    named: set[int] = set()
    for part in (config, config.get_text_config()):
        for name, value in vars(part).items():
            if name.endswith(("_token_id", "_token_index")):
                named |= set(value) if isinstance(value, list) else {value}
    return [i for i in range(size) if i not in named]
