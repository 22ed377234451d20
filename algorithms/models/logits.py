"""Logits where they are needed, and nowhere else: most tokens of an episode are not the policy's own."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from .attention import usual_attention

_TRIED = (-1000.0, -50.0, -7.0, -1.0, -0.125, 0.0, 0.25, 1.0, 3.0, 20.0, 300.0)
"""What a head is made to say, to see what its model makes of it."""
_SMALL, _LARGE = 2.0**-40, 2.0**40
"""A logit so small that no cap is felt, and one so large that nothing but the cap is."""


def precision(dtype: torch.dtype) -> torch.dtype:
    """Returns the precision in which a model's log-probabilities are computed: its own, but at least float32.

    >>> precision(torch.bfloat16), precision(torch.float64)
    (torch.float32, torch.float64)
    """
    return torch.promote_types(dtype, torch.float32)


@dataclass(frozen=True)
class Finish:
    """What a model does to each number that its linear head gives, to make a logit of it.

    Args:
        scale: the factor.
        cap: what they then stay between, softly; None if there is no cap.

    >>> Finish(scale=0.5, cap=2.0)(torch.tensor([-1e9, 0.0, 1e9])).tolist()
    [-2.0, 0.0, 2.0]
    """

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, raw: torch.Tensor) -> torch.Tensor:
        """Returns logits, of the same shape and in `precision`."""
        scaled = raw.to(precision(raw.dtype))
        scaled = scaled if self.scale == 1.0 else scaled * self.scale
        return scaled if self.cap is None else torch.tanh(scaled / self.cap) * self.cap


class Logits:
    """Computes the logits of chosen positions of a causal language model.

    Most models end in a linear head over the last hidden state, and perhaps scale or softly cap what it gives; then only the
    chosen positions go through it. A model that does something else at its end is recognised and computed in full.

    Args:
        model: a `transformers` causal language model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._finish = finish_of(model)

    def __call__(self, where: tuple[torch.Tensor, ...] | torch.Tensor, **inputs: Any) -> torch.Tensor:
        """Returns logits [N, V] in `precision`, at the positions that `where` picks out of [B, T]."""
        if self._finish is None:
            whole: torch.Tensor = self.model(**inputs).logits[where]
            return whole.to(precision(whole.dtype))
        return self._finish(self.model.get_output_embeddings()(self.model.base_model(**inputs).last_hidden_state[where]))


@torch.no_grad()
def finish_of(model: Any) -> Finish | None:
    """Returns what a model does to what its linear head gives; None if its logits come about in another way.

    The head is heard on a few tokens, and made to give other numbers: what becomes of these is seen whatever the weights are,
    and small logits would not show a cap.

    Args:
        model: a `transformers` causal language model, in any mode and precision.
    """
    head = model.get_output_embeddings()
    if head is None or model.base_model is model:
        return None
    training = model.training
    model.eval()
    ids = torch.arange(8, device=model.device)[None] % model.config.get_text_config().vocab_size
    told = torch.tensor([*_TRIED, _SMALL, _LARGE], dtype=torch.float64, device=model.device)
    heard: list[tuple[torch.dtype, torch.Tensor]] = []

    def say(_head: Any, inputs: tuple[torch.Tensor], given: torch.Tensor) -> torch.Tensor:
        heard.append((inputs[0].dtype, given))
        return told[torch.arange(given.numel(), device=told.device) % len(told)].view(given.shape)

    with usual_attention(model), torch.autocast(model.device.type, enabled=False):
        hook = head.register_forward_hook(say)
        try:
            became = model(input_ids=ids, use_cache=False).logits
        finally:
            hook.remove()
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        model.train(training)
        if [dtype for dtype, _ in heard] != [hidden.dtype]:
            return None
        given, (_, usual) = head(hidden), *heard
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4 * float(usual.abs().max())}
    if not usual.isfinite().all() or given.shape != became.shape or not torch.allclose(given, usual, **close):
        return None
    return _finish(told, became.flatten().double())


def _finish(told_N: torch.Tensor, became_F: torch.Tensor) -> Finish | None:
    """Returns what turns numbers, told over and over, into what became of them; None if no finish does."""
    *_, small, large = became_F[: len(told_N)].tolist()
    scale = small / _SMALL
    if not 0.0 < scale < math.inf:
        return None
    scale = 1.0 if math.isclose(scale, 1.0, rel_tol=1e-12) else scale
    found = Finish(scale, None if large > 0.5 * scale * _LARGE else large)
    wanted_F = found(told_N)[torch.arange(len(became_F), device=told_N.device) % len(told_N)]
    return found if torch.allclose(wanted_F, became_F, rtol=1e-5, atol=0.0) else None
