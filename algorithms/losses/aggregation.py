"""How the losses of single tokens become one number: over the whole optimizer batch, never per micro-batch."""

from collections.abc import Sequence
from typing import Literal

from arpo_envs import ConfigError

Aggregation = Literal["token", "sequence"] | int
"""What the weighted token losses of a batch are divided by.

"token": by the weight of all tokens, so long paths count more. "sequence": each path's by the weight of its tokens, and by
the number of paths, so the tokens of long paths count less. A number L: by L and by the number of paths, whatever their
lengths, so every token counts the same from batch to batch.
"""


def require_aggregation(aggregation: Aggregation) -> None:
    """Refuses an unknown aggregation.

    Raises:
        ConfigError: neither "token", nor "sequence", nor a whole number of tokens.
    """
    constant = isinstance(aggregation, int) and not isinstance(aggregation, bool)
    if aggregation not in ("token", "sequence") and not (constant and int(aggregation) >= 1):
        raise ConfigError(
            f'aggregation must be "token", "sequence" or a number of tokens to divide every path by, got {aggregation!r}.'
        )


def path_scales(weight_L: Sequence[float], aggregation: Aggregation) -> list[float]:
    """Returns for each path of the optimizer batch what its weighted token losses are multiplied by.

    Args:
        weight_L: [L] sum of the token weights of each path; a path without weight does not count.
        aggregation: see `Aggregation`.

    Source: token mean, DAPO (arXiv 2503.14476), Eq. 8; sequence mean, GRPO (arXiv 2402.03300), Eq. 3; constant, Dr. GRPO
    (arXiv 2503.20783), section 3.2.

    >>> path_scales([2.0, 6.0, 0.0], "token")
    [0.125, 0.125, 0.125]
    >>> path_scales([2.0, 5.0, 0.0], "sequence")
    [0.25, 0.1, 0.0]
    >>> path_scales([2.0, 6.0, 0.0], 10)
    [0.05, 0.05, 0.05]
    """
    require_aggregation(aggregation)
    paths = sum(weight > 0 for weight in weight_L)
    if paths == 0:
        return [0.0] * len(weight_L)
    if aggregation == "sequence":
        return [1.0 / (paths * weight) if weight > 0 else 0.0 for weight in weight_L]
    total = sum(weight_L) if aggregation == "token" else float(paths * int(aggregation))
    return [1.0 / total] * len(weight_L)
