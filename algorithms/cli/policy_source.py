"""What `--policy` may name: a folder, a model on the hub, SmolLM2, the URL of a server, or a policy from another package."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from arpo_envs import ConfigError
from arpo_envs.errors import unknown_name
from arpo_envs.plugins import is_reference

from ..models.built_in import MARK
from ..models.named import MODELS, is_made, make_model
from ..policies import Policy
from ..policies.built_in import served_root
from ..policies.named import POLICIES, make_policy, policy_maker, require_policy
from ..policies.served import is_url
from .words import parse_arguments

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_DESCRIPTION = ["*.json", "*.jinja", "*.txt", "*.model"]
_WEIGHTS = ["*.safetensors"]


@dataclass(frozen=True)
class Source:
    """What samples the actions, and which model it samples from: --policy, --engine and --model-folder together.

    Args:
        sampler: one of `POLICIES`, or a reference.
        options: the sampler's own.
        model: one of `MODELS`, a folder, a hub id, or URLs; see `policy_folder`.
        urls: of servers, if the policy is given by them.
    """

    sampler: str
    options: Mapping[str, Any]
    model: str
    urls: str | None = None

    def make(self, **told: Any) -> Policy:
        """Returns the policy; see `make_policy`."""
        return make_policy(self.sampler, self.options, **told, **self._urls)

    def require(self) -> None:
        """Checks, before the long work, for what would stop a run.

        Raises:
            ConfigError: something would.
        """
        require_policy(self.sampler, **self._urls)

    @property
    def is_made(self) -> bool:
        """Whether the model is made for the run, rather than found."""
        return is_made(self.model)

    @property
    def is_small(self) -> bool:
        """Whether the model is the embedded one, or was trained from it."""
        if self.is_made:
            return True
        folder = policy_folder(self.model, weights=False) if self.urls is not None else model_in(Path(self.model))
        return (folder / MARK).is_file()

    @property
    def _urls(self) -> dict[str, str]:
        return {} if self.urls is None else {"urls": self.urls}


class PolicyOptions(Protocol):
    """--policy and the options that belong to it, as commands have them."""

    @property
    def policy(self) -> str:
        """A model, for the engine; URLs of servers; or a policy, whose model is named separately."""
        ...

    @property
    def policy_args(self) -> Sequence[str]:
        """Arguments of a named policy, each NAME=VALUE."""
        ...

    @property
    def model_folder(self) -> str | None:
        """The model, if `policy` does not name it."""
        ...

    @property
    def engine(self) -> str:
        """One of "local" and "vllm"."""
        ...

    @property
    def engine_args(self) -> Sequence[str]:
        """Arguments of the engine, each NAME=VALUE."""
        ...


def source_of(options: PolicyOptions, usual: str | None) -> Source:
    """Returns what --policy and the options that belong to it stand for.

    Args:
        options: of a command.
        usual: the model that a named policy samples from if `model_folder` is left out.

    Raises:
        ConfigError: an option would have no effect, or the policy does not take its own.
    """
    policy, model_folder, engine = options.policy, options.model_folder, options.engine
    named, served = is_named(policy), is_url(policy)
    if engine != "local" and named:
        raise ConfigError(f"--engine {engine} would have no effect: the policy {policy} does its own sampling.")
    if engine != "local" and served:
        raise ConfigError(f"--engine {engine} would have no effect: {policy} is a server, which does its own sampling.")
    if options.engine_args and (named or served):
        raise ConfigError(f"--engine-args would have no effect: {policy} does its own sampling.")
    if options.policy_args and not named:
        raise ConfigError("--policy-args would have no effect: they belong to a policy from another package.")
    if model_folder is not None and not named and not served:
        raise ConfigError("--model-folder would have no effect: it belongs to a policy behind a URL, or from another package.")
    if served:
        return Source("server", {}, model_folder or policy, policy)
    if not named:
        own = parse_arguments(options.engine_args)
        policy_maker(engine, own)
        return Source(engine, own, policy)
    own = parse_arguments(options.policy_args)
    policy_maker(policy, own)
    if model_folder is None and usual is None:
        raise ConfigError(f"Say with --model-folder which run or model {policy} should sample from.")
    return Source(policy, own, model_folder or usual or "")


def is_named(name: str) -> bool:
    """Whether a policy is the name of a sampler, whose model is named separately; an existing folder takes precedence."""
    if MODELS.knows(name) or is_url(name) or Path(name).exists():
        return False
    return is_reference(name) or POLICIES.knows(name)


def is_folder(name: str) -> bool:
    """Whether a name is that of a folder here; names of models take precedence: a folder `embedded` is `./embedded`."""
    return not MODELS.knows(name) and Path(name).is_dir()


def unknown_policy(name: str) -> ConfigError:
    """Returns the error for what is neither a folder nor a name."""
    return unknown_name("policy", name, [*MODELS.names(), *POLICIES.names()])


def policy_folder(name: str, *, weights: bool = True) -> Path:
    """Returns the folder of a model; one on the hub is fetched into the cache, unless it is there already.

    Args:
        name: a folder of a model or of a run, a hub id "owner/name", one of `MODELS` that is found, or the URL of a server,
            which says what it was started with.
        weights: whether the weights are wanted too, or only its configuration and tokenizer.

    Raises:
        ConfigError: it is none of these, or the hub cannot be reached.
    """
    if MODELS.knows(name):
        errors = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
        return make_model(name, say=lambda line: errors.print(line))
    if is_url(name):
        return _served_folder(name, weights=weights)
    folder = model_in(Path(name))
    if folder.exists() or not _HUB_ID.fullmatch(name):
        if (folder / "config.json").is_file():
            return folder
        hint = "" if folder.exists() or "/" in name else f" {unknown_policy(name)}"
        why = "it has no config.json" if folder.exists() else "there is no such folder"
        raise ConfigError(f"--policy {name} is not a model folder: {why}.{hint}")
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


def measured_folder(source: Source) -> Path:
    """Returns the folder of the model that an evaluation is about: a run's policy, or a model by itself.

    Raises:
        ConfigError: there is none.
    """
    name, home = source.model, Path(source.model)
    if source.urls is not None:
        return policy_folder(name, weights=False)
    if (home / "policy").is_dir():
        return home / "policy"
    found = MODELS.knows(name) and not source.is_made
    if not found and (home.exists() or "/" not in name) and not (home / "config.json").is_file():
        hint = "" if home.exists() else f" {unknown_policy(name)}"
        raise ConfigError(f"{name} is neither a run that has a policy nor a model folder with a config.json.{hint}")
    return policy_folder(name)


def model_in(folder: Path) -> Path:
    """Returns the model folder that a folder stands for: in a run that of its policy, as its config.json is not a model's."""
    policy = folder / "policy"
    return policy if (policy / "config.json").is_file() else folder


def _served_folder(names: str, *, weights: bool) -> Path:
    """Returns the folder of the model behind URLs, as this machine knows it."""
    root = served_root(names)
    try:
        return policy_folder(root, weights=weights)
    except ConfigError as error:
        raise ConfigError(
            f"The server serves {root}, which cannot be read here: {error} Name the same model's folder or hub id on this "
            "machine with --model-folder."
        ) from error
