"""Whether an optimizer step is large enough to move weights in the precision they are stored in."""

from collections import Counter
from collections.abc import Callable, Sequence

import torch

from arpo_envs import ConfigError

Counts = tuple[Counter[torch.dtype], Counter[torch.dtype]]

_SAMPLES = 300_000
_LEAST = 0.5


def require_step(
    weights: Sequence[torch.Tensor], learning_rate: float, gathered: Callable[[Counts], Sequence[Counts]] = lambda own: [own]
) -> None:
    """Refuses a learning rate lost to rounding: AdamW moves a weight by about that much, whatever its gradient.

    Args:
        weights: the trained ones; some hundred thousand of their numbers are checked, evenly spread.
        learning_rate: the largest there will be; at 0 nothing is meant to move.
        gathered: from what this rank counted to what every rank counted, where each has its part of the weights.

    Raises:
        ConfigError: most weights would not change.
    """
    stride = max(1, sum(weight.numel() for weight in weights) // _SAMPLES)
    seen, stuck = Counter[torch.dtype](), Counter[torch.dtype]()
    before = 0
    for weight in weights:
        some = weight.detach().flatten()[-before % stride :: stride]
        before += weight.numel()
        seen[weight.dtype] += some.numel()
        stuck[weight.dtype] += int((some + learning_rate == some).sum())
    everyones = gathered((seen, stuck))
    seen, stuck = (sum((counts[which] for counts in everyones), Counter[torch.dtype]()) for which in (0, 1))
    moved = 1.0 - stuck.total() / max(1, seen.total())
    if learning_rate > 0.0 and moved < _LEAST:
        precision = max(stuck, key=lambda dtype: stuck[dtype])
        advice = 'Load the model in float32; autocast="bfloat16" still computes matrix products in bfloat16. Or raise'
        raise ConfigError(
            f"A step at the learning rate {learning_rate:g} would move {100 * moved:.2g}% of the trained weights; the rest are "
            f"rounded back to what they were, as {str(precision).removeprefix('torch.')} has too few digits. "
            f"{advice if precision.itemsize < 4 else 'Raise'} the learning rate."
        )
