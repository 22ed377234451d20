"""Low-rank adapters (LoRA) through `peft`: the model keeps its class, and only the adapters are trained."""

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from arpo_envs import ConfigError


@dataclass(frozen=True)
class LoRA:
    """Which layers get adapters, and how large they are.

    Args:
        rank: of each adapter.
        alpha: the adapter's output is multiplied by alpha / rank.
        targets: names of layers, or "all-linear" for all but the head.

    Source: Hu et al., LoRA (arXiv 2106.09685).
    """

    rank: int = 16
    alpha: int = 32
    targets: str | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.rank < 1 or self.alpha < 1:
            raise ConfigError(f"LoRA needs rank and alpha of at least 1, got {self.rank} and {self.alpha}.")


def require_peft() -> None:
    """Finds out whether `peft` is there.

    Raises:
        ConfigError: it is not.
    """
    if importlib.util.find_spec("peft") is None:
        raise ConfigError("LoRA needs the package peft: pip install 'arpo-envs[lora]'.")


def inject(model: Any, lora: LoRA) -> None:
    """Puts adapters into a model, in place; everything else is frozen.

    Raises:
        ConfigError: `peft` is not installed.
    """
    require_peft()
    from peft import LoraConfig, inject_adapter_in_model

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inject_adapter_in_model(
            LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, task_type="CAUSAL_LM"), model
        )


def adapter_state(model: Any) -> dict[str, torch.Tensor]:
    """Returns the adapters' tensors; empty for a model without any."""
    return {name: tensor for name, tensor in model.state_dict().items() if "lora_" in name}


def merged_state(model: Any) -> Mapping[str, torch.Tensor]:
    """Returns a state dict in the model's own names, each adapter added to its layer; nothing in the model changes."""
    state = model.state_dict()
    merged = {name.replace(".base_layer.", "."): tensor for name, tensor in state.items() if "lora_" not in name}
    with torch.no_grad():
        for name, layer in model.named_modules():
            if hasattr(layer, "get_delta_weight"):
                key = f"{name}.weight"
                delta = sum(layer.get_delta_weight(adapter) for adapter in layer.active_adapters)
                merged[key] = merged[key] + delta.to(merged[key].dtype)
    return merged


@contextmanager
def without_adapters(model: Any) -> Iterator[None]:
    """Makes the model what it was before, for as long as the context lasts."""
    layers = [layer for layer in model.modules() if hasattr(layer, "get_delta_weight")]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
