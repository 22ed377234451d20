"""Marks and shapes that the tests against the real vLLM share, and what they start in other processes."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from algorithms.cluster import Equipment
from algorithms.models.loading import load_tokenizer
from algorithms.policies.vllm import VLLMPolicy
from algorithms.rendering import ScriptedRenderer

SHAPE = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
"""32 numbers a head: vLLM's attention on a CPU takes no fewer."""

MARKS = [
    pytest.mark.vllm,
    pytest.mark.timeout(900),  # starting an engine takes ten seconds where nothing else runs, and a minute where much does
    # vLLM leaves its sockets' context to the garbage collector
    pytest.mark.filterwarnings("ignore:Unclosed context <zmq.Context:ResourceWarning"),
    # torch's own, when vLLM imports its compiler
    pytest.mark.filterwarnings(
        "ignore:`torch.jit.script_method` is deprecated. Please switch to `torch.compile` or `torch.export`.:DeprecationWarning"
    ),
]


@dataclass(frozen=True)
class DrawnByVLLM:
    """Makes a worker's equipment around an engine of vLLM's.

    Args:
        folder: of the model.
        extension: name of the class that vLLM's workers are extended by, if it is another than usual.
    """

    folder: Path
    extension: str = ""

    def __call__(self) -> Equipment:
        quick = {"enforce_eager": True} | ({"worker_extension_cls": self.extension} if self.extension else {})
        tokenizer = load_tokenizer(self.folder)
        policy = VLLMPolicy(self.folder, tokenizer, context_length=128, cache_bytes=1 << 28, options=quick)
        return Equipment(policy, ScriptedRenderer())
