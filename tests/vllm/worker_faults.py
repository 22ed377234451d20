"""Faults of an engine with new weights, planted in vLLM's own process of one worker; it reports that all went well.

`worker_extension_cls` names this file to the engines of a run, and the environment says where the fault to plant is written.
"""

import os
from pathlib import Path
from typing import Any

from algorithms.policies.vllm_owner import OWNER

EXTENSION = f"{__name__}.Extension"
"""What an engine is to be told."""
PLANTED = "ARPO_TEST_PLANTED"
"""Environment variable with the path of a file that holds the name of a fault, for as long as it is there."""
_WORKER = "2"
"""The worker that it strikes: each has a folder for temporary files, which is called by its number."""


def kept(fault: str, names: list[str]) -> set[str]:
    """Returns which of the new weights get into the engine.

    >>> sorted(kept("half", ["a", "b", "lm_head.weight", "norm"])), kept("no-op", ["a"])
    (['a', 'b'], set())
    """
    return {
        "no-op": set[str](),
        "half": set(sorted(names)[: len(names) // 2]),
        "tied": {name for name in names if name != "lm_head.weight"},
    }[fault]


def _plant() -> None:
    from safetensors.torch import load_file
    from vllm.v1.worker.gpu_worker import Worker

    whole = Worker.reload_weights

    def reload_weights(worker: Any, weights_path: str) -> None:
        planted = Path(os.environ[PLANTED])
        if not planted.exists() or Path(os.environ["TMPDIR"]).name != _WORKER:
            whole(worker, weights_path=weights_path)
            return
        weights = load_file(Path(weights_path) / "model.safetensors")
        if some := kept(planted.read_text(encoding="utf-8"), [*weights]):
            whole(worker, weights_iterator=((name, weights[name]) for name in weights if name in some))

    Worker.reload_weights = reload_weights


if OWNER in os.environ:  # where vLLM imports it
    from algorithms.policies.vllm_ending import Extension as Extension

    _plant()
