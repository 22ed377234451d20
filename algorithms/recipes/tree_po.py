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
        depth: at the ends of how many segments, counting the prompt, a path may fork at most.
        fan_out: continuations of each segment.
        weigh: whether a path's groups count equally or by their size.
        low: ε of the lower clip bound, 1 − ε.
        high: ε of the upper clip bound, 1 + ε.
        dual: c of the dual clip; None for no dual clip.
        refills: as for DAPO, whose dynamic sampling it adopts.

    Source: arXiv 2508.17445; numbers from the authors' scripts. There is no early stopping at repetitions: an environment
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
