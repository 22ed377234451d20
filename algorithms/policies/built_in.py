"""What makes the policies of this package by name: `local`, `vllm` and `server`, as any package makes its own.

A maker is called with what the run tells and it asks for, see `named.TOLD`, and with its own options. It may also have a
method `require`, which finds out, before the long work, what would stop a run.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arpo_envs import ConfigError

if TYPE_CHECKING:  # each needs packages that the others do without
    from .local import LocalPolicy
    from .openai import OpenAIPolicy
    from .served import Served
    from .vllm import VLLMPolicy

KEY = "ARPO_API_KEY"
"""Environment variable with the key a server wants."""


def local(
    *, folder: Path, tokenizer: Any, context_length: int, device: str, model: Any = None, batch_invariant: bool = False
) -> "LocalPolicy":
    """Returns our own engine.

    Args:
        folder: of the model.
        tokenizer: its tokenizer.
        context_length: maximum tokens per sequence.
        device: cpu or cuda.
        model: the model itself, where it is loaded already.
        batch_invariant: whether a generation is the same to the last bit, whatever is computed beside it; slower.
    """
    from ..models.devices import find_device
    from ..models.loading import load_policy
    from .local import LocalPolicy

    if model is None:
        model, _ = load_policy(folder)
    return LocalPolicy(
        model, tokenizer, device=find_device(device), context_length=context_length, batch_invariant=batch_invariant
    )


class VLLM:
    """Makes vLLM in a process of its own."""

    _OWN = ("dtype", "top_logprobs", "cache_bytes", "colocated")

    def __call__(self, *, folder: Path, tokenizer: Any, context_length: int, **options: Any) -> "VLLMPolicy":
        """Returns the policy.

        Args:
            folder: of the model.
            tokenizer: its tokenizer.
            context_length: maximum tokens per sequence.
            options: of `VLLMPolicy` or of vLLM's `AsyncEngineArgs`.

        Raises:
            ConfigError: vLLM is not installed, or does not take these arguments.
        """
        from .vllm import VLLMPolicy

        self.require()
        own = {name: options.pop(name) for name in self._OWN if name in options}
        return VLLMPolicy(folder, tokenizer, context_length=context_length, options=options, **own)

    def require(self) -> None:
        """Finds out whether vLLM can be imported.

        Raises:
            ConfigError: it cannot.
        """
        from .vllm import require_vllm

        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # it is read at the import; its lines would run into ours
        require_vllm()


class Server:
    """Makes a client of the servers behind URLs."""

    def __call__(
        self,
        *,
        urls: str,
        folder: Path,
        tokenizer: Any,
        context_length: int,
        weights_folder: Path | None = None,
        training: bool = True,
    ) -> "OpenAIPolicy":
        """Returns the policy.

        Args:
            urls: of the replicas, separated by commas.
            folder: describes the model.
            tokenizer: its tokenizer.
            context_length: maximum tokens per sequence.
            weights_folder: for weights on their way to the servers.
            training: whether log-probabilities must be those it samples with; an evaluation does not need them.
        """
        from .export import model_config
        from .openai import OpenAIPolicy

        config = model_config(folder)
        return OpenAIPolicy(
            ask(urls),
            tokenizer,
            vocabulary_size=config.get("vocab_size") or config.get("text_config", {}).get("vocab_size"),
            context_length=context_length,
            model_folder=folder,
            weights_folder=weights_folder,
            strict=training,
            api_key=os.environ.get(KEY),
        )

    def require(self, *, urls: str) -> None:
        """Finds out whether the servers can be trained.

        Raises:
            ConfigError: they cannot take weights.
        """
        from .server_sync import require_sync

        require_sync(ask(urls))


vllm, server = VLLM(), Server()


def ask(urls: str) -> "Served":
    """Asks the servers behind comma-separated URLs what they serve.

    Raises:
        ConfigError: none answers, or they do not serve one model.
    """
    from .served import ask_servers, split_urls

    return ask_servers(split_urls(urls), api_key=os.environ.get(KEY))


def served_root(urls: str) -> str:
    """Returns the folder or hub id that a server was started with.

    Raises:
        ConfigError: no server answers, or it does not say.
    """
    served = ask(urls)
    if served.root is None:
        raise ConfigError(f"{served.urls[0]} does not say where its model comes from. Give --model-folder.")
    return served.root
