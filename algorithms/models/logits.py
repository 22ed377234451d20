"""Logits where they are needed, and nowhere else: most tokens of an episode are not the policy's own."""

from typing import Any

import torch

from .attention import usual_attention


def precision(dtype: torch.dtype) -> torch.dtype:
    """Returns the precision in which a model's log-probabilities are computed: its own, but at least float32.

    >>> precision(torch.bfloat16), precision(torch.float64)
    (torch.float32, torch.float64)
    """
    return torch.promote_types(dtype, torch.float32)


class Logits:
    """Computes the logits of chosen positions of a causal language model.

    Most models end in a linear head over the last hidden state; then only the chosen positions go
    through it. A model that does something else at its end (scaling, soft-capping) is recognised
    and computed in full.

    Args:
        model: a `transformers` causal language model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._plain = has_plain_head(model)

    def __call__(self, where: tuple[torch.Tensor, ...] | torch.Tensor, **inputs: Any) -> torch.Tensor:
        """Returns logits [N, V] in `precision`, at the positions that `where` picks out of [B, T]."""
        if not self._plain:
            return _precise(self.model(**inputs).logits[where])
        return _precise(self.model.get_output_embeddings()(self.model.base_model(**inputs).last_hidden_state[where]))


def _precise(some: torch.Tensor) -> torch.Tensor:
    return some.to(precision(some.dtype))


@torch.no_grad()
def has_plain_head(model: Any) -> bool:
    """Whether logits are the last hidden states through a linear head; both ways are compared on a few tokens."""
    head = model.get_output_embeddings()
    if head is None or model.base_model is model:
        return False
    training = model.training
    model.eval()
    ids = torch.arange(8, device=model.device)[None] % model.config.get_text_config().vocab_size
    with usual_attention(model), torch.autocast(model.device.type, enabled=False):
        full = model(input_ids=ids, use_cache=False).logits.float()
        short = head(model.base_model(input_ids=ids, use_cache=False).last_hidden_state).float()
    model.train(training)
    if not full.isfinite().all():
        return False  # nothing to compare: weights are not finite, or some tokens may never be drawn
    return full.shape == short.shape and torch.allclose(full, short, rtol=1e-4, atol=1e-4 * float(full.abs().max()))
