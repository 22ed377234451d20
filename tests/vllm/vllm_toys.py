"""Marks and shapes that the tests against the real vLLM share."""

import pytest

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
