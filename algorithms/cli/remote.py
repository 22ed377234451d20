"""A policy behind a URL, for the commands: which folder describes it, and how it is reached."""

import os
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError

from ..policies.export import model_config
from ..policies.openai import OpenAIPolicy
from ..policies.served import Served, ask_servers, split_urls
from ..policies.server_sync import check_sync

KEY = "ARPO_API_KEY"
"""Environment variable with the key a server wants."""


def ask(names: str) -> Served:
    """Asks the servers behind comma-separated URLs what they serve.

    Raises:
        ConfigError: none answers, or they do not serve one model.
    """
    return ask_servers(split_urls(names), api_key=os.environ.get(KEY))


def served_root(names: str) -> str:
    """Returns the folder or hub id that a server was started with.

    Raises:
        ConfigError: no server answers, or it does not say.
    """
    served = ask(names)
    if served.root is None:
        raise ConfigError(f"{served.urls[0]} does not say where its model comes from. Give --model-folder.")
    return served.root


def remote_policy(
    names: str,
    folder: Path,
    tokenizer: Any,
    *,
    context_length: int | None = None,
    weights_folder: Path | None = None,
    strict: bool = True,
) -> OpenAIPolicy:
    """Returns the policy behind comma-separated URLs.

    Args:
        names: the URLs.
        folder: describes the model.
        tokenizer: its tokenizer.
        context_length: longest sequence in tokens.
        weights_folder: for weights on their way to the server.
        strict: see `OpenAIPolicy`.
    """
    config = model_config(folder)
    size = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    return OpenAIPolicy(
        ask(names),
        tokenizer,
        vocabulary_size=size,
        context_length=context_length,
        model_folder=folder,
        weights_folder=weights_folder,
        strict=strict,
        api_key=os.environ.get(KEY),
    )


def refuse_unsynced(names: str) -> None:
    """Finds out before a long run whether a server can be trained.

    Raises:
        ConfigError: it cannot take weights.
    """
    check_sync(ask(names))
