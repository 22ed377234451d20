"""Which token ids end a turn: all that a model's files list, in whichever file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError

_GENERATION, _CONFIG, _ADAPTER = "generation_config.json", "config.json", "adapter_config.json"
_NESTED = ("text_config", "llm_config", "language_config")
"""Where the configuration of a multimodal model keeps that of its language model."""


def end_ids(folder: Path, tokenizer: Any) -> tuple[int, ...]:
    """Returns the ids that end a turn, without those that the vocabulary does not have.

    Args:
        folder: of the model. If it is an adapter or has no generation_config.json, the settings of its base model count, too,
            if that is a folder or in the hub's cache.
        tokenizer: the model's; its `eos_token` comes first.

    Raises:
        ConfigError: a file is not a JSON object.
    """
    own = () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
    listed = (*own, *_listed(str(folder), {str(folder)}))
    return tuple(dict.fromkeys(end for end in listed if 0 <= end < len(tokenizer)))


def keep_ends(model: Any, ends: Sequence[int]) -> None:
    """Writes ids that end a turn into a model's own generation settings, which are saved with it."""
    settings = getattr(model, "generation_config", None)
    if settings is not None and ends:
        settings.eos_token_id = ends[0] if len(ends) == 1 else list(ends)


def _listed(name: str, seen: set[str]) -> Iterator[int]:
    """Yields the ids listed in a model's files, then those in its base model's."""
    generation, config, adapter = (_settings(name, file) for file in (_GENERATION, _CONFIG, _ADAPTER))
    nested = (config[part] for part in _NESTED if isinstance(config.get(part), dict))
    for settings in (generation, config, *nested):
        yield from _ids(settings.get("eos_token_id"))
    bases = [adapter.get("base_model_name_or_path"), None if generation else config.get("_name_or_path")]
    for base in bases:
        if isinstance(base, str) and base not in seen:
            seen.add(base)
            yield from _listed(base, seen)


def _ids(value: object) -> list[int]:
    listed = value if isinstance(value, list) else [value]
    return [end for end in listed if isinstance(end, int) and not isinstance(end, bool)]


def _settings(name: str, file: str) -> Mapping[str, Any]:
    """Returns the contents of a settings file of a model in a folder or in the hub's cache; empty if there is none."""
    path = Path(name) / file
    if not Path(name).is_dir():
        found = _cached(name, file)
        if found is None:
            return {}
        path = found
    try:
        settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} is not a JSON object. Save the model again, or remove the file.")
    return settings


def _cached(name: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, file)
    except HFValidationError:  # a folder on another machine
        return None
    return Path(found) if isinstance(found, str) else None
