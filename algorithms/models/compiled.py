"""Compiled models: `torch.compile` wraps modules, and the wrapper changes names, which breaks what reads weights by name."""

from typing import Any

import torch

WRAPPER = "_orig_mod"
"""The name that `torch.compile` gives to the module it wraps."""


def plain(model: Any) -> Any:
    """Returns a model without `torch.compile`: the wrapped one, in which every compiled module is unwrapped in place.

    The weights are the same tensors. A compiled model stays usable; only modules compiled inside it are unwrapped.
    """
    model = _inside(model)
    if isinstance(model, torch.nn.Module):
        for module in list(model.modules()):
            for name, child in list(module._modules.items()):
                module._modules[name] = _inside(child)
    return model


def _inside(module: Any) -> Any:
    while isinstance(module, torch.nn.Module) and WRAPPER in module._modules:
        module = module._modules[WRAPPER]
    return module


def plain_name(name: str) -> str:
    """Returns the name that a weight has without `torch.compile`.

    >>> plain_name("_orig_mod.model._orig_mod.norm.weight")
    'model.norm.weight'
    """
    return ".".join(part for part in name.split(".") if part != WRAPPER)
