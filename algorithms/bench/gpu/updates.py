"""Speed and memory of a train step on packed trees, over the same on flat rows: random models, several sharing ratios."""

import torch

from ..pack import PackBench, at_ratio, random_model
from .gradients import Attention, require_flex
from .measures import Numbers, Setting

RATIOS = (2.0, 3.0, 4.5)
"""At 2, SDPA does not pay off with the smallest model, whose trees are then computed as flat rows."""
SIZES = {"0.1B": (640, 12), "0.5B": (1024, 24), "1.5B": (1728, 28)}
"""Width and layers."""


def sdpa_100m(setting: Setting) -> Numbers:
    """Measures 0.1B parameters, by scaled dot-product attention."""
    return speeds(setting, "0.1B", "as-loaded")


def sdpa_500m(setting: Setting) -> Numbers:
    """Measures 0.5B parameters."""
    return speeds(setting, "0.5B", "as-loaded")


def sdpa_1500m(setting: Setting) -> Numbers:
    """Measures 1.5B parameters."""
    return speeds(setting, "1.5B", "as-loaded")


def flex_100m(setting: Setting) -> Numbers:
    """Measures 0.1B parameters, by FlexAttention."""
    return speeds(setting, "0.1B", "flex_attention")


def flex_500m(setting: Setting) -> Numbers:
    """Measures 0.5B parameters."""
    return speeds(setting, "0.5B", "flex_attention")


def flex_1500m(setting: Setting) -> Numbers:
    """Measures 1.5B parameters."""
    return speeds(setting, "1.5B", "flex_attention")


def speeds(setting: Setting, size: str, attention: Attention) -> Numbers:
    """Measures updates at several sharing ratios, on flat rows and on packed trees by the same attention.

    Raises:
        Skipped: FlexAttention cannot be compiled here.
    """
    if attention == "flex_attention":
        require_flex(setting.device)
    config = sized(setting, size, attention)
    found: Numbers = {"parameters": parameters(config), "dtype": config.dtype}
    for ratio in RATIOS:
        numbers, _ = at_ratio(config, ratio)
        flat = numbers["path_tokens"] / numbers["flat_seconds"]
        found |= {
            f"sharing_ratio_at_{ratio}": numbers["sharing_ratio"],
            f"flat_tokens_per_second_at_{ratio}": flat,
            f"packed_tokens_per_second_at_{ratio}": flat * numbers["speedup"],
            f"speedup_at_{ratio}": numbers["speedup"],
            f"flat_megabytes_at_{ratio}": numbers["flat_megabytes"],
            f"packed_megabytes_at_{ratio}": numbers["flat_megabytes"] / numbers["memory_ratio"],
        }
    return found


def sized(setting: Setting, size: str, attention: Attention) -> PackBench:
    """Returns what is measured."""
    if setting.sizes == "toy":
        return PackBench(1, 64, 1, 64, 1, 64, "bfloat16", device=setting.device, attention=attention)
    width, layers = SIZES[size]
    return PackBench(1, 2048, 2, width, layers, 1 << 15, "bfloat16", 1 << 14, device=setting.device, attention=attention)


def parameters(config: PackBench) -> int:
    """Returns how many numbers the model has; none of them is drawn."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in random_model(config).parameters())
