"""AEPO: ARPO with entropy kept in balance, in the rollout and in the update."""

from arpo_envs import ConfigError

from ..advantages.entropy_aware import EntropyAware
from ..algorithm import Algorithm
from ..branching.balanced import BalancedBranching
from ..branching.entropy import Bernoulli, Normalisation, Threshold
from ..losses.balanced import BalancedClipLoss
from ._parts import needs_for, refuse_no_weight


def aepo(
    *,
    rollouts: int = 16,
    probe: int = 20,
    siblings: int = 1,
    alpha: float = 0.5,
    gamma: float = 0.2,
    tau: float | None = None,
    balance: float = 0.5,
    penalty: float = 0.05,
    normalisation: Normalisation = "nats",
    shape: float = 0.2,
    low: float = 0.2,
    high: float = 0.2,
    kl: float = 0.0,
) -> Algorithm:
    """Returns AEPO: a budget split by pre-monitored entropy, rarer consecutive forks, bounded gradients, not clipped ones.

    Args:
        rollouts: k, leaves per prompt; how many of them start from the prompt follows from the entropies.
        probe: tokens after a tool result, and after the question, whose entropy counts.
        siblings: Z, paths added by one fork.
        alpha: base probability (or base value of the threshold rule).
        gamma: weight of the entropy change.
        tau: None forks with probability P_t; a number forks if P_t exceeds it.
        balance: β of the split m = k·σ(β (H_root − H̄_tool)).
        penalty: subtracted from P_t for each consecutive fork on a path.
        normalisation: of ΔH, see `entropy_change`.
        shape: a, weight of a token's entropy in its advantage.
        low: ε of the lower clip bound, 1 − ε.
        high: ε of the upper clip bound, 1 + ε.
        kl: coefficient of a KL penalty to the initial policy.

    Source: arXiv 2510.14545; balance, penalty and shape from the authors' code, all else as ARPO. Differences from that
    code: penalties count forks of a path (as the paper says), not rounds of a prompt; the path that is watched first is
    kept as a leaf, not discarded; entropies are means per token of the tokens after this result; the budget is always
    pre-monitored, which their script switches off. As for ARPO, P_t is a probability by default, because with tau = alpha
    a first fork would ignore gamma.
    """
    refuse_no_weight("gamma", gamma)
    if rollouts < 3:
        raise ConfigError(f"aepo needs at least 3 rollouts: one to watch, one root, one fork; got {rollouts}.")
    rule = Bernoulli(alpha, gamma) if tau is None else Threshold(tau, alpha, gamma)
    return Algorithm(
        name="aepo",
        source="AEPO, arXiv 2510.14545",
        branching=BalancedBranching(rule, balance, penalty, probe, siblings, normalisation),
        rollouts=rollouts,
        advantages=EntropyAware(shape),
        loss=BalancedClipLoss(low, high, kl),
        needs=needs_for(kl),
    )
