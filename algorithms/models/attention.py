"""How a model's layers attend, as its configuration states it: how far back, with which masks, and which attention can.

That a configuration was understood is never assumed: `agreement` and `packable` verify it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

Masks = TypeVar("Masks")


@dataclass(frozen=True)
class Reach:
    """Which of the tokens before it a token sees.

    Args:
        window: how many of the last tokens, itself included; None: all of them.
        chunk: those in its own chunk, in tokens per chunk; None: all of them.
    """

    window: int | None = None
    chunk: int | None = None

    def hides(self, query: Any, key: Any) -> Any:
        """Returns where a token is out of reach, or None if none ever is.

        Args:
            query: positions of the tokens that attend, an array or tensor of integers.
            key: positions of the tokens attended to; both broadcast.

        >>> import numpy as np
        >>> Reach(window=2).hides(np.array([[2]]), np.arange(3))
        array([[ True, False, False]])
        """
        if self.window is not None:
            return query - key >= self.window
        if self.chunk is not None:
            return query // self.chunk != key // self.chunk
        return None


def reaches(config: Any) -> Mapping[str, Reach]:
    """Returns how far each kind of layer sees; a single one, named "", if all layers take the same mask.

    Args:
        config: of a `transformers` model, whose text model counts.

    Raises:
        KeyError: a kind of layer that no mask describes, such as one that keeps a state.
    """
    text = config.get_text_config()
    window = Reach(window=getattr(text, "sliding_window", None))
    known = {
        "full_attention": Reach(),
        "sliding_attention": window,
        "chunked_attention": Reach(chunk=getattr(text, "attention_chunk_size", None)),
    }
    kinds = getattr(text, "layer_types", None)
    if not kinds:
        return {"": window}
    found = {kind: known[kind] for kind in dict.fromkeys(kinds)}
    return {"": Reach()} if set(found.values()) == {Reach()} else found


def as_taken(reach_of: Mapping[str, Reach], make: Callable[[Reach], Masks]) -> Masks | dict[str, Masks]:
    """Returns masks in the form in which a model takes them: one, or one for each kind of layer.

    Args:
        reach_of: from `reaches`.
        make: returns the mask for layers of a given reach.
    """
    return make(reach_of[""]) if "" in reach_of else {kind: make(reach) for kind, reach in reach_of.items()}


def added(hidden: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Returns a mask to add to the scores: eager attention adds its mask, even a Boolean one."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, torch.finfo(dtype).min)


def keep_soft_cap(model: Any) -> None:
    """Switches a model to eager attention if its scores have a soft cap and SDPA computes them: it has no place for the cap.

    Some versions of `transformers` (5.17) leave it out without a word, so that sampler and learner agree on what is not the
    model; later ones choose eager attention themselves. FlexAttention and FlashAttention know the cap.

    Args:
        model: of `transformers`; changed in place, weights or not.
    """
    if _has_soft_cap(model.config) and getattr(model.config, "_attn_implementation", None) == "sdpa":
        model.set_attn_implementation("eager")


def _has_soft_cap(config: Any) -> bool:
    return getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None


@contextmanager
def usual_attention(model: Any) -> Iterator[None]:
    """Switches a model from FlexAttention for as long as the context lasts: it has no kernels for some short texts."""
    if getattr(model.config, "_attn_implementation", None) != "flex_attention":
        yield
        return
    try:
        model.set_attn_implementation("eager" if _has_soft_cap(model.config) else "sdpa")
    except ValueError:  # a model that only has the slowest
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation("flex_attention")
