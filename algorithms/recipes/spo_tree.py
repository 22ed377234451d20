"""SPO-tree: a fixed tree of segments; each is credited with the change in value it made."""

from math import prod
from typing import Literal

from ..advantages.segments import SegmentAdvantage
from ..algorithm import Algorithm
from ..branching.segments import SegmentBranching
from ..losses.clip import ClipLoss
from ._parts import needs_for


def spo_tree(
    *,
    fan_outs: tuple[int, ...] = (6, 6, 6),
    segment: int = 30,
    scale: Literal["none", "siblings"] = "none",
    certain: float = 0.9,
    clip: float = 0.2,
    kl: float = 0.0,
) -> Algorithm:
    """Returns SPO-tree: a segment's advantage is the value at its end minus the value at the fork it follows.

    Args:
        fan_outs: continuations of the prompt, of each first segment, and so on; their product is M.
        segment: tokens per segment; a path's last segment runs to its end.
        scale: "none", or "siblings" to divide by the deviation of the fork's branches.
        certain: tokens drawn with at least this probability are not trained on.
        clip: ε of the surrogate.
        kl: coefficient of a KL penalty to the initial policy.

    Source: arXiv 2505.23564, tree-based estimation and probability mask; 6-6-6 and 30 tokens from the authors' GSM8K runs.
    """
    return Algorithm(
        name="spo_tree",
        source="SPO-tree, arXiv 2505.23564",
        branching=SegmentBranching(fan_outs, segment),
        rollouts=prod(fan_outs),
        advantages=SegmentAdvantage(scale, certain),
        loss=ClipLoss(clip, clip, kl),
        needs=needs_for(kl),
    )
