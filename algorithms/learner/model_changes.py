"""What training may need from a model besides logits: a value head, another attention, recomputed activations."""

from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
import torch.utils.checkpoint

from arpo_envs import ConfigError

from ..models.logits import precision


def value_head(model: Any) -> torch.nn.Linear:
    """Returns a linear map from the last hidden state to one number, 0 at first; it is as precise as log-probabilities."""
    width = int(model.config.get_text_config().hidden_size)
    head = torch.nn.Linear(width, 1, device=model.device, dtype=precision(model.dtype))
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return head


def set_attention(model: Any, name: str) -> None:
    """Changes a model's attention.

    Raises:
        ConfigError: `transformers` has none of that kind for this model.
    """
    try:
        model.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"transformers has no {name} for {model.config.model_type}. Leave out attention.") from error


def checkpoint_activations(model: Any) -> None:
    """Makes a model compute the activations inside its blocks again in the backward pass instead of keeping them.

    `transformers` does so only in training mode, where dropout is on. Here its blocks do it in eval mode.

    Raises:
        ConfigError: the model has no blocks that may be computed twice.
    """
    found = list(blocks(model))
    if not found:
        raise ConfigError(
            f"Gradient checkpointing: {model.config.model_type} has no blocks that transformers allows to be computed twice. "
            "Leave it out; a smaller micro_batch_tokens saves memory too."
        )
    for block in found:
        block.forward = MethodType(_computed_twice, block)  # a bound method follows its block into a copy


def blocks(module: torch.nn.Module) -> Iterator[Any]:
    """Yields a model's blocks, the outermost ones: those that may be computed twice, and are sharded one by one."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    for child in module.children():
        if isinstance(child, GradientCheckpointingLayer):
            yield child
        else:
            yield from blocks(child)


def _computed_twice(block: Any, *args: Any, **kwargs: Any) -> Any:
    from transformers import Cache

    forward = type(block).forward
    if not torch.is_grad_enabled() or any(isinstance(it, Cache) for it in (*args, *kwargs.values())):
        return forward(block, *args, **kwargs)  # what is written to a cache must be written once
    return torch.utils.checkpoint.checkpoint(forward, block, *args, use_reentrant=False, **kwargs)
