"""The other control for ARPO: forks at fixed places, blind to entropy and chance."""

from ..advantages.baseline import Baseline
from ..advantages.soft import SoftAttribution
from ..algorithm import Algorithm
from ..branching.blind import FixedBranching
from ..losses.aggregation import Aggregation
from ._parts import clipped


def fixed_branching(
    *,
    rollouts: int = 16,
    roots: int = 8,
    at: tuple[int, ...] = (1,),
    siblings: int = 1,
    shared_once: bool = False,
    baseline: Baseline = "leaves",
    aggregation: Aggregation = "token",
    skip_equal: bool = False,
    clip: float = 0.2,
    kl: float = 0.0,
) -> Algorithm:
    """Returns a tree that forks after the same tool calls on every path: a control.

    Args:
        rollouts: M, leaves per prompt; what the forks leave unused is back-filled.
        roots: N, rollouts that start from the prompt.
        at: the tool calls after which a path forks, counted from 1.
        siblings: Z, paths added by one fork.
        shared_once: count a shared token once instead of once per path.
        baseline: what a leaf is compared with: "leaves", "tree" or "siblings", as for ARPO.
        aggregation: "token", "sequence", or a number of tokens to divide every path by.
        skip_equal: leave out prompts whose rollouts all earned the same, instead of counting their tokens in the mean.
        clip: ε of the surrogate.
        kl: coefficient of a KL penalty to the initial policy.

    Source: the ablation that ARPO (arXiv 2507.19849) does not report.
    """
    return clipped(
        "fixed_branching",
        "control for ARPO, arXiv 2507.19849: forks at fixed tool calls",
        FixedBranching(roots, at, siblings),
        SoftAttribution(shared_once, baseline),
        rollouts=rollouts,
        aggregation=aggregation,
        skip_equal=skip_equal,
        clip=clip,
        kl=kl,
    )
