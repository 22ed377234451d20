"""Low-rank adapters (LoRA) through `peft`: the model keeps its class, and only the adapters are trained."""

import copy
import functools
import importlib.util
import operator
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from arpo_envs import ConfigError

from .configuration import LoRA
from .weights import WeightSource


def require_peft() -> None:
    """Checks that `peft` is installed.

    Raises:
        ConfigError: it is not.
    """
    if importlib.util.find_spec("peft") is None:
        raise ConfigError("LoRA needs the package peft: pip install 'arpo-envs[lora]'.")


def inject(model: Any, lora: LoRA) -> None:
    """Puts adapters into a model, in place; everything else is frozen. A refused model is left unchanged.

    Adapters begin with the same numbers whether the model has weights or is a `skeleton`, which still lacks its own afterwards.

    Raises:
        ConfigError: `peft` is not installed or does not take these layers, the model has adapters already, or the new
            ones could not be merged.
    """
    require_peft()
    if has_adapters(model):
        raise ConfigError("The model already has adapters. Merge them first, or reload the model.")
    skeleton = _skeleton(model)
    try:
        _inject(skeleton, lora)
    except (ValueError, TypeError) as error:
        reason = str(error).strip()
        raise ConfigError(f"LoRA cannot adapt {lora.targets!r} in a {model.config.model_type}: {reason}") from error
    adapted = _adapters(skeleton).keys()
    _refuse_shared(model, adapted)
    _refuse_strange(model, adapted)
    with _lent_weights(model):
        _inject(model, lora)


def _skeleton(model: Any) -> Any:
    """Returns a copy of a model whose weights have no memory."""
    empty = {id(p): torch.nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, empty)


@contextmanager
def _lent_weights(model: Any) -> Iterator[None]:
    """Lends a model weights where it has none, of one number each: adapters are put on the device of the layer's weight."""
    every = [(part, name, it) for part in model.modules() for name, it in part._parameters.items()]
    own = [(part, name, it) for part, name, it in every if it is not None and it.is_meta]
    lent = {id(it): torch.nn.Parameter(torch.zeros((), dtype=it.dtype).expand(it.shape), it.requires_grad) for _, _, it in own}
    for part, name, it in own:
        part._parameters[name] = lent[id(it)]
    try:
        yield
    finally:
        for part, name, it in own:
            part._parameters[name] = it.requires_grad_(lent[id(it)].requires_grad)


def _inject(model: Any, lora: LoRA) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Nothing to warn about: peft detects transposed weights by itself, and which ranks of experts there are; tied
        # weights are refused.
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to")
        warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys did not match")
        warnings.filterwarnings("ignore", "Model (has|with) `tie_word_embeddings=True`")
        torch.manual_seed(0)
        inject_adapter_in_model(config, model)


def _adapters(model: Any) -> dict[str, Any]:
    """Returns a model's adapters by the name that the weight each is added to has in the model without adapters."""
    found = {}
    for name, layer in model.named_modules():
        if hasattr(layer, "get_delta_weight"):  # an adapter for several weights of a layer wraps another
            found[base_name(f"{name}.{getattr(layer, 'parameter_name', 'weight')}")] = layer
    return found


def base_name(name: str) -> str:
    """Returns the name of a weight in the model without adapters.

    >>> base_name("layers.0.mlp.up_proj.base_layer.weight")
    'layers.0.mlp.up_proj.weight'
    """
    return ".".join(part for part in name.split(".") if part != "base_layer")


def _refuse_shared(model: Any, adapted: Iterable[str]) -> None:
    """Refuses adapters on a weight with several names: the merged sum would be under one name, but apply to all."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(_place(parameter), []).append(name)
    for name in adapted:
        others = [other for other in names[_place(model.get_parameter(name))] if other != name]
        if others:
            raise ConfigError(
                f"LoRA would adapt {name}, which is tied: {others[0]} is the same weight, and an adapter cannot be merged into "
                "one of them alone. Leave it out of the adapter's targets, or, if it is the embedding, load the model with "
                "tie_word_embeddings=False."
            )


def _place(parameter: torch.nn.Parameter) -> int:
    return id(parameter) if parameter.is_meta else parameter.data_ptr()


def _refuse_strange(model: Any, adapted: Iterable[str]) -> None:
    """Refuses adapters on a layer that deviates from its class: an adapter adds to a product, or to a look-up."""
    for name in adapted:
        layer = model.get_submodule(name.rpartition(".")[0])
        if not _does_as_its_class(layer):
            raise ConfigError(
                f"LoRA cannot adapt {name}: {type(layer).__name__} does not simply multiply by it or look up in it, but its "
                "adapter would, and could not be merged. Leave it out of the adapter's targets."
            )


@torch.no_grad()
def _does_as_its_class(layer: Any) -> bool:
    """Whether a layer with its own `forward` computes the same as a linear layer, or a (scaled) table, of its weight."""
    if any(it.is_meta for it in layer.parameters()):  # any numbers tell what it does with them
        layer = copy.deepcopy(layer, {id(it): _some_numbers(it) for it in layer.parameters()})
    if isinstance(layer, torch.nn.Linear) and type(layer).forward is not torch.nn.Linear.forward:
        given = torch.linspace(-1.0, 1.0, layer.in_features).to(layer.weight)[None]
        wanted = torch.nn.functional.linear(given, layer.weight, layer.bias)
    elif isinstance(layer, torch.nn.Embedding) and type(layer).forward is not torch.nn.Embedding.forward:
        given = torch.arange(min(layer.num_embeddings, 8), device=layer.weight.device)[None]
        wanted = torch.nn.functional.embedding(given, layer.weight) * getattr(layer, "embed_scale", 1.0)
    else:
        return True
    try:
        found = layer(given)
    except Exception:  # noqa: BLE001  # it takes other inputs, and may fail on these in any way
        return False
    same = isinstance(found, torch.Tensor) and found.shape == wanted.shape
    return same and torch.allclose(found.float(), wanted.float(), rtol=1e-2, atol=1e-2 * float(wanted.abs().max()))


def _some_numbers(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    """Returns numbers for a weight, none like its neighbours."""
    return torch.nn.Parameter(torch.arange(1.0, parameter.numel() + 1).sin().to(parameter.dtype).view(parameter.shape))


def has_adapters(model: Any) -> bool:
    """Whether a model has adapters."""
    return isinstance(model, torch.nn.Module) and bool(_adapters(model))


def adapter_state(model: Any) -> dict[str, torch.Tensor]:
    """Returns the adapters' tensors; empty for a model without any."""
    return {name: tensor for name, tensor in model.state_dict().items() if "lora_" in name}


def merged_state(model: Any) -> WeightSource:
    """Returns a state dict in the model's own names, each adapter added to its layer; nothing in the model changes."""
    tensors = {base_name(name): tensor for name, tensor in model.state_dict().items() if "lora_" not in name}
    every, once = (dict(model.named_parameters(remove_duplicate=unique)).keys() for unique in (False, True))
    deltas = {name: partial(_delta, layer) for name, layer in _adapters(model).items()}
    return WeightSource(tensors, deltas, [base_name(name) for name in every - once])


def _delta(layer: Any) -> torch.Tensor:
    """Returns what a layer's adapters add to its weight."""
    delta: torch.Tensor = functools.reduce(operator.add, map(layer.get_delta_weight, layer.active_adapters))
    return delta


@contextmanager
def without_adapters(model: Any) -> Iterator[None]:
    """Switches the adapters off for as long as the context lasts."""
    layers = _adapters(model).values()
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
