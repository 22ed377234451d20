"""vLLM in process, for the commands: how its arguments are written, and how much it says."""

import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..policies import vllm
from ..policies.vllm import VLLMPolicy
from .environments import parse_arguments

_OWN = {"dtype", "top_logprobs", "cache_bytes", "colocated"} & set(inspect.signature(VLLMPolicy).parameters)


def vllm_policy(folder: Path, tokenizer: Any, context_length: int, words: Sequence[str]) -> VLLMPolicy:
    """Returns a policy that draws with vLLM from a model folder.

    Args:
        folder: of the model.
        tokenizer: its tokenizer.
        context_length: longest sequence in tokens.
        words: NAME=VALUE, arguments of `VLLMPolicy` or of vLLM's `AsyncEngineArgs`.

    Raises:
        ConfigError: vLLM is not installed, or does not take these arguments.
    """
    require_vllm()
    arguments = parse_arguments(words)
    own = {name: value for name, value in arguments.items() if name in _OWN}
    options = {name: value for name, value in arguments.items() if name not in _OWN}
    return VLLMPolicy(folder, tokenizer, context_length=context_length, options=options, **own)


def require_vllm() -> None:
    """Finds out before a long run whether vLLM can be imported.

    Raises:
        ConfigError: it cannot.
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # it is read at the import; its lines would run into ours
    vllm.require_vllm()
