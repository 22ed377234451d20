"""Models from folders: every weight is there and is used, or the folder is refused.

`transformers` fills in at random what is missing from a folder, and ignores what does not fit.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from arpo_envs import ConfigError

from .attention import keep_soft_cap
from .compiled import WRAPPER, plain_name

_WRAPPED = {
    f"{WRAPPER}.": "it was saved from a compiled model",
    "module.": "it was saved from a model wrapped for several processes",
    "base_model.model.": "it was saved from a model wrapped by peft",
}
_COMPUTED = re.compile(r"(inv_freq|masked_bias|position_ids|(attn|attention)\.bias)$")
"""Names of masks and of positions' angles that older versions of `transformers` stored: they follow from the configuration."""


def load_policy(folder: Path) -> tuple[Any, Any]:
    """Returns (model, tokenizer) of a Hugging Face folder, in float32, from disk only.

    Raises:
        ConfigError: it is not a model folder, or its weights are not those of the model that its config.json describes.
    """
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder} is not a model folder: it has no config.json.")
    options: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True, "output_loading_info": True}
    try:
        with without_bars():  # sizes are compared below
            loaded: Any = _family(folder).from_pretrained(folder, ignore_mismatched_sizes=True, **options)
    except Exception as error:  # broken files and unknown models can fail in any way
        raise ConfigError(
            f"{folder} cannot be loaded as a causal language model of the type {_model_type(folder)!r}: {_reason(error)} Check "
            "that all of its files are there and whole, and that this version of transformers knows such a model."
        ) from error
    model, found = loaded
    _require_all_weights(folder, model, found)
    keep_soft_cap(model)
    return model, load_tokenizer(folder)


def _family(folder: Path) -> Any:
    """Returns what loads the models of a folder's type: some models that also see are known only as such."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    only_so = also_sees(config) and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING
    return AutoModelForImageTextToText if only_so else AutoModelForCausalLM


def also_sees(config: Any) -> bool:
    """Whether a `transformers` configuration is that of a model that takes images besides text."""
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def load_tokenizer(folder: Path) -> Any:
    """Returns the tokenizer of a Hugging Face folder, from disk only.

    Raises:
        ConfigError: there is none in it.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # broken files can fail in any way
        raise ConfigError(f"{folder} has no tokenizer that transformers can read: {_reason(error)}") from error


def _require_all_weights(folder: Path, model: Any, found: Mapping[str, Any]) -> None:
    """Refuses weights that are missing, left over or of another shape, unless they are tied or computed."""
    missing = _untied(found["missing_keys"], model)
    unexpected = {name for name in found["unexpected_keys"] if not _is_computed(name, model)}
    mismatched = {f"{name} is {_shape(stored)}, not {_shape(wanted)}" for name, stored, wanted in found["mismatched_keys"]}
    groups = {"are missing": missing, "are left over": unexpected, "have another shape": mismatched}
    wrong = [f"{len(names)} {what} ({_examples(names)})" for what, names in groups.items() if names]
    if wrong:
        hint = _hint(missing, unexpected) or "Save the whole model again, or correct the config.json."
        raise ConfigError(
            f"The weights in {folder} are not those of the {model.config.model_type} in its config.json: of its weights "
            f"{', '.join(wrong)}. What is missing would be random numbers. {hint}"
        )


def _untied(missing: Collection[str], model: Any) -> set[str]:
    """Returns the missing weights that do not share memory with one that is there."""
    weights = model.state_dict()
    there = {tensor.data_ptr() for name, tensor in weights.items() if name not in missing}
    return {name for name in missing if name not in weights or weights[name].data_ptr() not in there}


def _is_computed(name: str, model: Any) -> bool:
    """Whether a name belongs to a buffer that the model computes itself, or once did; layers may have moved since then."""
    computed = dict(model.named_buffers()).keys() - model.state_dict().keys()
    return _end(name) in map(_end, computed) or _COMPUTED.search(name) is not None


def _end(name: str) -> tuple[str, ...]:
    return tuple(name.split(".")[-2:])


def _hint(missing: Collection[str], unexpected: Collection[str]) -> str | None:
    """Returns what to do if all leftover weights would fit with a prefix removed from their names, or added."""
    if not missing or not unexpected:
        return None
    if {plain_name(name) for name in unexpected} <= set(missing):
        return f"The names contain {WRAPPER!r}: {_WRAPPED[WRAPPER + '.']}. Save it again with this version, or strip that part."
    one = min(unexpected)
    for name in missing:
        more, less = one.removesuffix(name), name.removesuffix(one)
        if more != one and {it.removeprefix(more) for it in unexpected} <= set(missing):
            return f"The names begin with {more!r}{_because(more)}. Save the model without it, or strip the prefix."
        if less != name and {less + it for it in unexpected} <= set(missing):
            return f"The names lack {less!r} at their beginning. Save the whole model again, or add the prefix."
    return None


def _because(prefix: str) -> str:
    return f": {_WRAPPED[prefix]}" if prefix in _WRAPPED else ""


def _examples(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:2]) + (", …" if len(names) > 2 else "")


def _shape(sizes: Collection[int]) -> str:
    return "×".join(map(str, sizes))


def _reason(error: Exception) -> str:
    """Returns the first line of an error, or its type if it has none."""
    line = str(error).strip().partition("\n")[0]
    return f"{line.rstrip('.:')}." if line else f"{type(error).__name__}."


def _model_type(folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError:
        return "unknown"
    return str(config.get("model_type", "unknown")) if isinstance(config, dict) else "unknown"


@contextmanager
def without_bars() -> Iterator[None]:
    """Keeps `transformers` from drawing bars for single files into our own display."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
