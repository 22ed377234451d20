"""Weights in transit: a model folder that another engine can load, whatever the learner holds.

    export_weights(source, weights, folder, *, dtype=None) -> Path

`source` is the policy's Hugging Face folder (its description: config.json, tokenizer, generation settings), `weights`
the learner's state dict (None: the weights in `source` itself), `folder` where the new model folder is written. The
result is always untied. vLLM 0.32 on a CPU, started on a tied model, loaded new weights from a tied folder wrongly and
without an error: log-probabilities were off by up to 9.5 nats. An engine that is to take weights is best started on an
untied folder too.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arpo_envs import ConfigError

if TYPE_CHECKING:
    import torch

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".index.json")
_OUTPUT = "lm_head.weight"
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
_FILE = "model.safetensors"


def export_weights(
    source: Path, weights: "Mapping[str, torch.Tensor] | None", folder: Path, *, dtype: "torch.dtype | None" = None
) -> Path:
    """Writes a model folder with the given weights, never tied, and returns it.

    The folder may be written again while an engine still has the old file mapped: files are replaced, not overwritten.

    Args:
        source: model folder with a config.json; its other files that describe the model are copied.
        weights: state dict of the `transformers` model; None for the weights in `source`.
        folder: to write to; made if it is missing.
        dtype: of the written weights; by default their own.

    Raises:
        ConfigError: there is no model in `source`, or the weights do not belong to it.
    """
    from safetensors.torch import save_file

    config = model_config(source)
    stored = _stored_names(source)
    if weights is None:
        if not stored:
            raise ConfigError(f"{source} has no weights as safetensors, so there is nothing to export.")
        weights = _read(source)
    named = untied(dict(weights), tied=is_tied(config))
    strange = [name for name in named if name != _OUTPUT and not {name, name.partition(".")[2]} & stored]
    if stored and strange:
        raise ConfigError(
            f"{len(strange)} weights are not in {source}, e.g. {strange[0]}. Export the state dict of a model loaded from "
            "that folder; models whose parameters transformers renames or joins while loading are not supported."
        )
    folder.mkdir(parents=True, exist_ok=True)
    _describe(source, config, folder)
    temporary = folder / f".{_FILE}.tmp"
    save_file(_apart(named, dtype), temporary, metadata={"format": "pt"})
    os.replace(temporary, folder / _FILE)
    return folder


def model_config(folder: Path) -> dict[str, Any]:
    """Returns the config.json of a model folder.

    Raises:
        ConfigError: there is none.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ConfigError(f"{folder} is not a model folder: it has no config.json.")
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return config


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether a model shares one matrix between embedding and output; `transformers` ties unless the file says otherwise.

    >>> is_tied({"tie_word_embeddings": False}), is_tied({"model_type": "gpt2"})
    (False, True)
    """
    stated = config.get("tie_word_embeddings", config.get("text_config", {}).get("tie_word_embeddings"))
    return bool(stated) if stated is not None else _ties_by_default(str(config.get("model_type", "")))


def _ties_by_default(model_type: str) -> bool:
    """Whether a family's own configuration ties where the file does not say: files leave out defaults."""
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        return True
    return bool(getattr(CONFIG_MAPPING[model_type]().get_text_config(), "tie_word_embeddings", True))


def _stored_names(folder: Path) -> set[str]:
    """Returns the names of the weights in a folder."""
    from safetensors import safe_open

    names: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            names |= set(opened.keys())
    return names


def _read(folder: Path) -> "dict[str, torch.Tensor]":
    from safetensors.torch import load_file

    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def untied(weights: "dict[str, torch.Tensor]", *, tied: bool) -> "dict[str, torch.Tensor]":
    """Returns the weights with a separate output matrix.

    Args:
        weights: state dict of the `transformers` model.
        tied: whether its configuration says so; see `is_tied`.

    Raises:
        ConfigError: it is tied, and has no embedding with a usual name.
    """
    if _OUTPUT in weights or not tied:
        return weights
    found = [name for name in weights if name.endswith(_EMBEDDINGS)]
    if len(found) != 1:
        raise ConfigError(
            f"The model is tied, and its embedding was not found: {len(found)} weights are called "
            f"{', '.join('…' + name for name in _EMBEDDINGS)}. Save it untied (tie_word_embeddings=False)."
        )
    return weights | {_OUTPUT: weights[found[0]]}


def _apart(weights: "Mapping[str, torch.Tensor]", dtype: "torch.dtype | None") -> "dict[str, torch.Tensor]":
    """Returns the weights on the CPU, none of which shares memory with another: the file format refuses that."""
    taken: set[int] = set()
    apart: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        wanted = dtype if tensor.is_floating_point() else None
        one = tensor.detach().to(device="cpu", dtype=wanted or tensor.dtype).contiguous()
        if one.untyped_storage().data_ptr() in taken:
            one = one.clone()
        taken.add(one.untyped_storage().data_ptr())
        apart[name] = one
    return apart


def _describe(source: Path, config: Mapping[str, Any], folder: Path) -> None:
    """Writes everything besides the weights, with the configuration of an untied model."""
    untied = {**config, "tie_word_embeddings": False}
    if isinstance(config.get("text_config"), Mapping):
        untied["text_config"] = {**config["text_config"], "tie_word_embeddings": False}
    for file in source.iterdir():
        if file.is_file() and not file.name.endswith(_WEIGHTS) and file.name != "config.json":
            shutil.copyfile(file, folder / file.name)
    (folder / "config.json").write_text(json.dumps(untied, indent=2) + "\n", encoding="utf-8")
