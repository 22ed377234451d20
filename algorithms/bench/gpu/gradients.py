"""Gradients on packed trees, against float64: they may be as far from it as those of flat rows are, and no further."""

import math
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Literal

import torch

from ...models.devices import find_device
from ..pack import PackBench, Update, random_model, trees_of
from .measures import Numbers, Setting, Skipped, require

RATIO = 3.0
"""Of the trees' tokens on paths to their unique ones."""
ROOM = 4.0
"""Times the distance of flat rows that packed trees may be from float64, parameter by parameter. On a CPU they were 1.3 times
as far away at the most; a wrong mask moves a gradient by about its own size."""
SIZES = {"full": PackBench(trees=2, path=512, width=512, layers=4), "toy": PackBench(trees=1, path=64, width=64, layers=1)}
Attention = Literal["as-loaded", "flex_attention"]
Dtype = Literal["float32", "bfloat16"]


def sdpa_float32(setting: Setting) -> Numbers:
    """Measures scaled dot-product attention in float32."""
    return compared(setting, "as-loaded", "float32")


def sdpa_bfloat16(setting: Setting) -> Numbers:
    """Measures the same in bfloat16."""
    return compared(setting, "as-loaded", "bfloat16")


def flex_float32(setting: Setting) -> Numbers:
    """Measures FlexAttention in float32."""
    return compared(setting, "flex_attention", "float32")


def flex_bfloat16(setting: Setting) -> Numbers:
    """Measures the same in bfloat16."""
    return compared(setting, "flex_attention", "bfloat16")


def compared(setting: Setting, attention: Attention, dtype: Dtype) -> Numbers:
    """Compares the gradients of packed trees and of flat rows with those of flat rows in float64, on the same weights.

    Raises:
        Skipped: FlexAttention cannot be compiled here.
        Broken: the packed gradient is further off, or nothing was packed.
    """
    if attention == "flex_attention":
        require_flex(setting.device)
    sizes = {**vars(SIZES[setting.sizes]), "device": setting.device, "dtype": dtype}
    flat_config, packed_config = PackBench(**sizes), PackBench(**{**sizes, "attention": attention})
    trees = trees_of(flat_config, RATIO)
    flat, packed = Update(flat_config, trees, "flat"), Update(packed_config, trees, "auto")
    exact = Update(flat_config, trees, "flat", model=random_model(flat_config).double())
    for way in (exact, flat, packed):
        way.once()
    eps = torch.finfo(getattr(torch, dtype)).eps
    apart = distances(flat.gradients(), exact.gradients(), eps)
    packed_apart = distances(packed.gradients(), exact.gradients(), eps)
    require(max(*apart.values(), *packed_apart.values()) < math.inf, "a gradient is not finite", {})
    worst = max(apart, key=lambda name: packed_apart[name] / apart[name])
    found: Numbers = {
        "sharing_ratio": packed.sharing,
        "flat_relative_error": max(apart.values()),
        "packed_relative_error": max(packed_apart.values()),
        "packed_over_flat": packed_apart[worst] / apart[worst],
        "worst_parameter": worst,
    }
    require(packed.sharing > 1.0, "nothing was packed", found)
    why = f"the packed gradient of {worst} is {packed_apart[worst]:.2g} of its size off, that of flat rows {apart[worst]:.2g}"
    require(packed_apart[worst] <= ROOM * apart[worst], why, found)
    return found


def distances(one: Mapping[str, torch.Tensor], exact: Mapping[str, torch.Tensor], eps: float) -> dict[str, float]:
    """Returns the error of each gradient, as a share of its norm, at least that of a rounding; inf if it is not finite.

    Args:
        one: gradients by parameter.
        exact: the same in float64.
        eps: relative size of a rounding.

    >>> distances({"w": torch.tensor([3.0, 5.0])}, {"w": torch.tensor([3.0, 4.0], dtype=torch.float64)}, 1e-7)
    {'w': 0.2}
    >>> distances({"w": torch.tensor([math.nan])}, {"w": torch.ones(1, dtype=torch.float64)}, 1e-7)
    {'w': inf}
    """
    apart = {name: float((one[name] - it).norm() / it.norm()) if name in one else math.nan for name, it in exact.items()}
    return {name: max(eps, value) if math.isfinite(value) else math.inf for name, value in apart.items()}


def require_flex(device: str) -> None:
    """Refuses where FlexAttention cannot run.

    Raises:
        Skipped: it has no backward pass there, or no compiler.
    """
    if find_device(device).type != "cuda":
        raise Skipped(f"FlexAttention has no backward pass on {device}")
    if find_spec("triton") is None:
        raise Skipped("FlexAttention needs triton, which is not installed")
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        raise Skipped("FlexAttention needs a C compiler, and there is none")
