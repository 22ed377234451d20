"""ARPO: fork after tool results that made the policy uncertain, credit the shared prefix."""

from typing import Literal

from arpo_envs import ConfigError

from ..advantages.baseline import Baseline
from ..advantages.hard import HardAttribution
from ..advantages.soft import SoftAttribution
from ..algorithm import Algorithm
from ..branching.entropy import Bernoulli, EntropyBranching, Normalisation, Threshold
from ..branching.strategy import BranchingStrategy
from ..losses.aggregation import Aggregation
from ._parts import clipped, refuse_no_weight


def arpo(
    *,
    rollouts: int = 16,
    roots: int = 8,
    probe: int = 20,
    siblings: int = 1,
    alpha: float | Literal["auto"] = 0.5,
    beta: float = 0.2,
    tau: float | None = None,
    normalisation: Normalisation = "nats",
    attribution: Literal["soft", "hard"] = "soft",
    shared_once: bool = False,
    baseline: Baseline = "leaves",
    aggregation: Aggregation = "token",
    skip_equal: bool = False,
    clip: float = 0.2,
    kl: float = 0.0,
    implementation: Literal["ours", "reference"] = "ours",
) -> Algorithm:
    """Returns ARPO with the paper's numbers: fork where a tool result made the policy uncertain.

    Args:
        rollouts: M, leaves per prompt.
        roots: N, rollouts that start from the prompt.
        probe: k, tokens after a tool result whose entropy decides.
        siblings: Z, paths added by one fork.
        alpha: base probability (or base value of the threshold rule); "auto" spreads the forks over the episode: such that
            M - N are expected, from the tool results per path and the entropy changes of earlier steps.
        beta: weight of the entropy change; at 0 the algorithm is "random_branching".
        tau: None forks with probability clip(alpha + beta·ΔH); a number forks if alpha + beta·ΔH > tau.
        normalisation: of ΔH, see `entropy_change`.
        attribution: how leaves' advantages reach shared tokens.
        shared_once: count a shared token once instead of once per path.
        baseline: what a leaf is compared with: all "leaves" (as published), those of its "tree", or "siblings"
            first among themselves, which forks cannot bias.
        aggregation: "token" (as in the authors' code), "sequence" (as in the paper), or a number of tokens to divide
            every path by.
        skip_equal: leave out prompts whose rollouts all earned the same, instead of counting their tokens in the mean.
        clip: ε of the surrogate.
        kl: coefficient of a KL penalty to the initial policy.
        implementation: "reference" does what the authors' released code does, see `arpo_reference`.

    Source: arXiv 2507.19849, Algorithm 1, Eq. 4-7; k and Z from the authors' code. The default rule is
    the one their code runs (and says so): with the paper's tau = alpha the threshold ignores beta.
    """
    refuse_no_weight("beta", beta)
    if implementation == "reference":
        given = (tau, normalisation, attribution, shared_once, baseline, aggregation, skip_equal)
        if isinstance(alpha, str) or given != (None, "nats", "soft", False, "leaves", "token", False):
            raise ConfigError(
                "The reference implementation does not take tau, normalisation, attribution, shared_once, baseline, "
                "aggregation, skip_equal or alpha = 'auto': leave them out."
            )
        from ._arpo_reference import arpo_reference

        return arpo_reference(
            rollouts=rollouts, roots=roots, tokens=probe, siblings=siblings, alpha=alpha, beta=beta, clip=clip, kl=kl
        )
    estimator = SoftAttribution if attribution == "soft" else HardAttribution
    return clipped(
        "arpo",
        "ARPO, arXiv 2507.19849, Algorithm 1, Eq. 4-7",
        _branching(alpha, beta, tau, roots, probe, siblings, normalisation),
        estimator(shared_once, baseline),
        rollouts=rollouts,
        aggregation=aggregation,
        skip_equal=skip_equal,
        clip=clip,
        kl=kl,
    )


def _branching(
    alpha: float | Literal["auto"],
    beta: float,
    tau: float | None,
    roots: int,
    probe: int,
    siblings: int,
    normalisation: Normalisation,
) -> BranchingStrategy:
    """Returns where to fork; the options are those of `arpo`.

    Raises:
        ConfigError: alpha is to follow from the episodes, but with tau no probability depends on it.
    """
    if not isinstance(alpha, str):
        rule = Bernoulli(alpha, beta) if tau is None else Threshold(tau, alpha, beta)
        return EntropyBranching(roots, rule, probe, siblings, normalisation)
    if tau is not None:
        raise ConfigError(f"alpha = 'auto' sets the probability of a fork, and with tau = {tau} there is none. Leave one out.")
    from ..branching.spread import SpreadBranching

    return SpreadBranching(roots, beta, probe, siblings, normalisation)
