"""Tokens per second of rollouts through an engine, beside the same generation by the engine's model or core alone."""

import asyncio
from collections.abc import Sequence
from statistics import median
from typing import Any

from ..engines import Beside, Shape, local_beside_generate, small_model, vllm_beside_generate
from .measures import Numbers, Setting
from .options import dtype_of, vllm_options

SHAPES = {"full": Shape(), "toy": Shape(paths=2, prompt=8, action=4, observation=4, turns=2)}
WIDTHS = {"full": (896, 24), "toy": (64, 1)}
"""Width and layers."""
VOCABULARY = 2048
_ROUNDS = {"full": 3, "toy": 1}


def local(setting: Setting) -> Numbers:
    """Measures the local engine, beside `model.generate`."""
    shape, model = SHAPES[setting.sizes], _model(setting, setting.device)
    return summary(asyncio.run(local_beside_generate(shape, model, rounds=_ROUNDS[setting.sizes])))


def vllm(setting: Setting) -> Numbers:
    """Measures vLLM, beside its own engine's generation.

    Raises:
        Skipped: it is not installed.
    """
    options = vllm_options(setting, eager=setting.sizes == "toy")
    shape, model = SHAPES[setting.sizes], _model(setting, "cpu")
    return summary(asyncio.run(vllm_beside_generate(shape, model, rounds=_ROUNDS[setting.sizes], **options)))


def _model(setting: Setting, device: str) -> Any:
    width, layers = WIDTHS[setting.sizes]
    model = small_model(VOCABULARY, SHAPES[setting.sizes].context_length, width=width, layers=layers)
    return model.to(device, dtype_of(setting))


def summary(rounds: Sequence[Beside]) -> Numbers:
    """Returns the medians of some rounds.

    >>> summary([Beside(100, ours=2.0, bare=1.0)])
    {'tokens_per_second': 50.0, 'bare_tokens_per_second': 100.0, 'over_bare': 0.5, 'rounds': 1}
    """
    return {
        "tokens_per_second": median(one.tokens / one.ours for one in rounds),
        "bare_tokens_per_second": median(one.tokens / one.bare for one in rounds),
        "over_bare": median(one.ratio for one in rounds),
        "rounds": len(rounds),
    }
