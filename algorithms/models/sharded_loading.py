"""A model without weights, and its weights straight from a folder into sharded parameters: nobody holds all of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from arpo_envs import ConfigError

from ..durable import as_it_was
from .attention import keep_soft_cap
from .loading import also_sees


def skeleton(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Returns the model of a Hugging Face folder without its weights, which take no memory; buffers are computed.

    Args:
        folder: has a config.json.
        dtype: of the weights to come.

    Raises:
        ConfigError: it is not a model folder, or `transformers` knows no such causal language model, or it also sees.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook
    from transformers import AutoConfig, AutoModelForCausalLM

    def without_memory(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> Any:
        if parameter is None or parameter.is_meta:
            return None
        return torch.nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)

    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder} is not a model folder: it has no config.json.")
    hook = register_module_parameter_registration_hook(without_memory)
    try:
        with torch.random.fork_rng(devices=[]):
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            if also_sees(config):  # its weights are stored under other names than it has them
                raise ConfigError(f"{folder} is a model that also sees ({config.model_type}), which needs --learners 1.")
            model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
    except (ValueError, KeyError, OSError) as error:
        raise ConfigError(f"{folder} does not describe a causal language model that transformers knows: {error}") from error
    finally:
        hook.remove()
    keep_soft_cap(model)
    return model


def is_skeleton(model: Any) -> bool:
    """Whether a model has no weights yet."""
    return any(parameter.is_meta for parameter in model.parameters())


def load_into(scorer: Any, folder: Path, device: torch.device, name_of: Callable[[str], str] = str) -> None:
    """Reads the weights that a sharded skeleton lacks; each rank reads its own part of each.

    Args:
        scorer: holds the skeleton as `model`, and a new value head or none; weights that it has, as of adapters, are kept.
        folder: with safetensors.
        device: where the weights belong.
        name_of: returns the name that a weight has in the folder.

    Raises:
        ConfigError: weights are missing in the folder or have another shape.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    model = scorer.model
    computed = {name: buffer.clone() for name, buffer in model.named_buffers()}
    there = {name: it.detach().clone() for name, it in model.named_parameters() if not it.is_meta}
    scorer.to_empty(device=device)
    if scorer.value_head is not None:
        for parameter in scorer.value_head.parameters():
            torch.nn.init.zeros_(parameter)
    for name, buffer in computed.items():
        model.get_buffer(name).copy_(buffer)
    for name, weight in there.items():
        model.get_parameter(name).detach().copy_(weight)
    stored = model.state_dict().keys()
    everything = (*model.named_parameters(), *model.named_buffers())
    weights = {name_of(name): it.detach() for name, it in everything if name in stored and name not in there}
    reader = HuggingFaceStorageReader(str(folder))
    found: Mapping[str, Any] = reader.read_metadata().state_dict_metadata
    wrong = [name for name, it in weights.items() if name not in found or found[name].size != it.shape]
    if wrong:
        what = "has another shape" if wrong[0] in found else "is missing"
        raise ConfigError(
            f"{len(wrong)} of {len(weights)} weights of a {model.config.model_type} cannot be read from {folder}: {wrong[0]} "
            f"{what}. A folder whose names transformers translates has to be loaded whole, and saved with this version."
        )
    with as_it_was():
        load(weights, storage_reader=reader)
