"""A control for ARPO: the same tree with coin tosses instead of entropy."""

from typing import Literal

from ..advantages.baseline import Baseline
from ..advantages.soft import SoftAttribution
from ..algorithm import Algorithm
from ..branching.blind import RandomBranching
from ..branching.spread import SpreadBranching
from ..losses.aggregation import Aggregation
from ._parts import clipped


def random_branching(
    *,
    rollouts: int = 16,
    roots: int = 8,
    siblings: int = 1,
    probability: float | Literal["auto"] = 0.5,
    shared_once: bool = False,
    baseline: Baseline = "leaves",
    aggregation: Aggregation = "token",
    skip_equal: bool = False,
    clip: float = 0.2,
    kl: float = 0.0,
) -> Algorithm:
    """Returns ARPO's tree with forks at random: a control.

    Args:
        rollouts: M, leaves per prompt.
        roots: N, rollouts that start from the prompt.
        siblings: Z, paths added by one fork.
        probability: of a fork after each tool result; ARPO's alpha. "auto" spreads the forks over the episode, as there.
        shared_once: count a shared token once instead of once per path.
        baseline: what a leaf is compared with: "leaves", "tree" or "siblings", as for ARPO.
        aggregation: "token", "sequence", or a number of tokens to divide every path by.
        skip_equal: leave out prompts whose rollouts all earned the same, instead of counting their tokens in the mean.
        clip: ε of the surrogate.
        kl: coefficient of a KL penalty to the initial policy.

    Source: the ablation that ARPO (arXiv 2507.19849) does not report.
    """
    branching: RandomBranching | SpreadBranching
    if isinstance(probability, str):
        branching = SpreadBranching(roots, beta=0.0, probe=0, siblings=siblings)
    else:
        branching = RandomBranching(roots, probability, siblings)
    return clipped(
        "random_branching",
        "control for ARPO, arXiv 2507.19849: beta = 0",
        branching,
        SoftAttribution(shared_once, baseline),
        rollouts=rollouts,
        aggregation=aggregation,
        skip_equal=skip_equal,
        clip=clip,
        kl=kl,
    )
