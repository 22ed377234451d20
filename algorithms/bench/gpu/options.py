"""What measures of vLLM have in common."""

from typing import Any

import torch

from ...models.devices import find_device
from ..engines import has_vllm
from .measures import Setting, Skipped

_SHARE = 0.5
"""Of the device's memory, for vLLM: a learner may be there, too."""


def on_cuda(setting: Setting) -> bool:
    """Returns whether it is a GPU that is measured."""
    return find_device(setting.device).type == "cuda"


def dtype_of(setting: Setting) -> torch.dtype:
    """Returns the precision of engines."""
    return torch.bfloat16 if on_cuda(setting) else torch.float32


def vllm_options(setting: Setting, *, eager: bool, **more: Any) -> dict[str, Any]:
    """Returns arguments of `VLLMPolicy`.

    Args:
        setting: where to measure.
        eager: without compiling and capturing graphs, which takes longer than a short measure.
        more: options of the engine.

    Raises:
        Skipped: vLLM is not installed.
    """
    if not has_vllm():
        raise Skipped("vLLM is not installed, or cannot be imported")
    share = {"gpu_memory_utilization": _SHARE} if on_cuda(setting) else {}
    return {
        "dtype": str(dtype_of(setting)).removeprefix("torch."),
        "cache_bytes": 2 << 30 if on_cuda(setting) else 1 << 28,
        "options": {"enforce_eager": eager, **share, **more},
    }
