"""What `--policy` may name: a folder, a model on the hub, SmolLM2, the URL of a server, or a policy from another package."""

import re
from pathlib import Path

from rich.console import Console

from arpo_envs import ConfigError
from arpo_envs.errors import unknown_name
from arpo_envs.plugins import is_reference

from ..policies.named import POLICIES
from ..policies.served import is_url

EMBEDDED = "embedded"
"""Names the small model that is built and cold-started here."""
SMOLLM2 = "smollm2"
"""Names the model of `algorithms.models.smollm2`; a folder of that name is `./smollm2`."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_DESCRIPTION = ["*.json", "*.jinja", "*.txt", "*.model"]
_WEIGHTS = ["*.safetensors"]


def is_named(name: str) -> bool:
    """Whether a policy's name is that of one from another package, which draws the actions of a model named apart.

    A folder keeps its name, whatever is installed.
    """
    if name in (EMBEDDED, SMOLLM2) or is_url(name) or Path(name).exists():
        return False
    return is_reference(name) or any(plugin.name == name for plugin in POLICIES.plugins())


def unknown_policy(name: str) -> ConfigError:
    """Returns the error for what is neither a folder nor a name."""
    return unknown_name("policy", name, [EMBEDDED, SMOLLM2, *POLICIES.names()])


def policy_folder(name: str, *, weights: bool = True) -> Path:
    """Returns the folder of a model; one on the hub is fetched into the cache, unless it is there already.

    Args:
        name: a folder of a model or of a run, a hub id "owner/name", "smollm2", or the URL of a server, which says what it
            was started with.
        weights: whether the weights are wanted too, or only its configuration and tokenizer.

    Raises:
        ConfigError: it is none of these, or the hub cannot be reached.
    """
    if name == SMOLLM2:
        from ..models.smollm2 import smollm2_folder

        errors = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
        return smollm2_folder(lambda line: errors.print(line))
    if is_url(name):
        return _served_folder(name, weights=weights)
    folder = model_in(Path(name))
    if folder.exists() or not _HUB_ID.fullmatch(name):
        if (folder / "config.json").is_file():
            return folder
        hint = "" if folder.exists() or "/" in name else f" {unknown_policy(name)}"
        raise ConfigError(f"--policy {name} is not a model folder: it has no config.json.{hint}")
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


def model_in(folder: Path) -> Path:
    """Returns the model folder that a folder stands for: the policy of a run, whose own config.json is none of a model."""
    policy = folder / "policy"
    return policy if (policy / "config.json").is_file() else folder


def _served_folder(names: str, *, weights: bool) -> Path:
    """Returns the folder of the model behind URLs, as this machine knows it."""
    from .remote import served_root

    root = served_root(names)
    try:
        return policy_folder(root, weights=weights)
    except ConfigError as error:
        raise ConfigError(
            f"The server serves {root}, which cannot be read here: {error} Name the same model's folder or hub id on this "
            "machine with --model-folder."
        ) from error
