"""ARPO: fork after tool results that made the policy uncertain, credit the shared prefix."""

from typing import Literal

from ..advantages.hard import HardAttribution
from ..advantages.soft import SoftAttribution
from ..algorithm import Algorithm
from ..branching import Bernoulli, EntropyBranching, Normalisation, Threshold
from ..losses.clip import ClipLoss


def arpo(
    *,
    rollouts: int = 16,
    roots: int = 8,
    probe: int = 20,
    siblings: int = 1,
    alpha: float = 0.5,
    beta: float = 0.2,
    tau: float | None = None,
    normalisation: Normalisation = "nats",
    attribution: Literal["soft", "hard"] = "soft",
    shared_once: bool = False,
    clip: float = 0.2,
    kl: float = 0.0,
) -> Algorithm:
    """Returns ARPO with the paper's numbers.

    Args:
        rollouts: M, leaves per prompt.
        roots: N, rollouts that start from the prompt.
        probe: k, tokens after a tool result whose entropy decides.
        siblings: Z, paths added by one fork.
        alpha: base probability (or base value of the threshold rule).
        beta: weight of the entropy change.
        tau: None forks with probability clip(alpha + beta·ΔH); a number forks if alpha + beta·ΔH > tau.
        normalisation: of ΔH, see `entropy_change`.
        attribution: how leaves' advantages reach shared tokens.
        shared_once: count a shared token once instead of once per path.
        clip: ε of the surrogate.
        kl: coefficient of a penalty to the initial policy.

    Source: arXiv 2507.19849, Algorithm 1, Eq. 4-7; k and Z from the authors' code. The default rule is
    the one their code runs (and says so): with the paper's tau = alpha the threshold ignores beta.
    """
    rule = Bernoulli(alpha, beta) if tau is None else Threshold(tau, alpha, beta)
    estimator = SoftAttribution if attribution == "soft" else HardAttribution
    return Algorithm(
        name="arpo",
        source="ARPO, arXiv 2507.19849, Algorithm 1, Eq. 4-7",
        branching=EntropyBranching(roots, rule, probe, siblings, normalisation),
        rollouts=rollouts,
        advantages=estimator(shared_once),
        loss=ClipLoss(clip, clip, kl),
        needs=frozenset({"reference"}) if kl > 0 else frozenset(),
    )
