"""TreePO: segments of fixed length that fan out, compared with every group they belong to."""

from typing import Literal

from ..advantages.subgroups import Subgroups
from ..algorithm import Algorithm
from ..branching.segments import SegmentBranching
from ..losses.clip import ClipLoss
from ..rewards import mixed_success


def tree_po(
    *,
    rollouts: int = 16,
    roots: int = 2,
    segment: int = 512,
    depth: int = 14,
    fan_out: int = 2,
    weigh: Literal["equal", "size"] = "equal",
    low: float = 0.2,
    high: float = 0.28,
    dual: float | None = 10.0,
    refills: int = 9,
) -> Algorithm:
    """Returns TreePO: a fixed fan-out after every segment of tokens, until the budget is used up.

    Args:
        rollouts: width, leaves per prompt; what is left over goes to random segments (the fallback).
        roots: fan-out of the prompt; 2 to 8 in the paper.
        segment: tokens of a segment.
        depth: most segments of a path at whose end it may fork, the prompt counted.
        fan_out: continuations of each segment.
        weigh: whether a path's groups count the same, or by their size.
        low: ε below 1.
        high: ε above 1.
        dual: c of the dual clip; None for none.
        refills: as for DAPO, whose dynamic sampling it takes over.

    Source: arXiv 2508.17445; numbers from the authors' scripts. Early stopping at repetitions is not done: an environment
    ends its episodes itself.
    """
    return Algorithm(
        name="tree_po",
        source="TreePO, arXiv 2508.17445",
        branching=SegmentBranching((roots, *(fan_out,) * (depth - 1)), segment, fallback=True),
        rollouts=rollouts,
        advantages=Subgroups(weigh),
        loss=ClipLoss(low, high, dual=dual),
        keep=mixed_success,
        refills=refills,
    )
