"""What `--policy` may name: a folder, or a model on the Hugging Face hub, which becomes a folder of its cache."""

import re
from pathlib import Path

from arpo_envs import ConfigError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_DESCRIPTION = ["*.json", "*.jinja", "*.txt", "*.model"]
_WEIGHTS = ["*.safetensors"]


def policy_folder(name: str, *, weights: bool = True) -> Path:
    """Returns the folder of a model; one on the hub is fetched into the cache, unless it is there already.

    Args:
        name: a folder, or a hub id "owner/name".
        weights: whether the weights are wanted too, or only its configuration and tokenizer.

    Raises:
        ConfigError: it is neither, or the hub cannot be reached.
    """
    if name.startswith(("http://", "https://")):
        raise ConfigError(f"--policy {name} is a URL, which this command does not take. Give a model folder or a hub id.")
    folder = Path(name)
    if folder.exists() or not _HUB_ID.fullmatch(name):
        if (folder / "config.json").is_file():
            return folder
        raise ConfigError(f"--policy {name} is not a model folder: it has no config.json.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        fetched = Path(snapshot_download(name, allow_patterns=_DESCRIPTION + (_WEIGHTS if weights else [])))
    except LocalEntryNotFoundError as error:
        raise ConfigError(
            f"--policy {name}: there is no such folder, and the Hugging Face hub cannot be reached (nor is the model in its "
            "cache). Check the connection and HF_HUB_OFFLINE, or give a folder."
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"--policy {name}: there is no such folder, and the Hugging Face hub says: {reason}") from error
    if not (fetched / "config.json").is_file():
        raise ConfigError(f"--policy {name} is not a model: there is no config.json in it.")
    if weights and not any(fetched.glob("*.safetensors")):
        raise ConfigError(f"--policy {name} has no weights as safetensors, or they were never fetched into the cache.")
    return fetched
