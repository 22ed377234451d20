"""What training may ask of a model beside its logits: a value head, and activations that are computed twice."""

from typing import Any

import torch

from .logits import precision


def value_head(model: Any) -> torch.nn.Linear:
    """Returns a linear map from the last hidden state to one number, 0 at first; it is as precise as log-probabilities."""
    width = int(model.config.get_text_config().hidden_size)
    head = torch.nn.Linear(width, 1, device=model.device, dtype=precision(model.dtype))
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return head


def checkpoint_activations(model: Any) -> None:
    """Makes a model compute its activations twice instead of keeping them; that needs training mode, so dropout is off."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout") and isinstance(module.attention_dropout, float):
            module.attention_dropout = 0.0
    if hasattr(model, "activation_checkpointing_enable"):  # its name in newer versions of transformers
        model.activation_checkpointing_enable({"use_reentrant": False})
    else:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
