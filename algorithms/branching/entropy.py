"""Fork where the policy became uncertain after a tool result: ARPO's rule.

Source: ARPO (arXiv 2507.19849), section 3.1, Eq. 4 and 5 and Algorithm 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from arpo_envs import ConfigError

from ..tree import RolloutTree
from .strategy import BranchPoint, Grow, Weighed, heads, roots_then_backfill


@dataclass(frozen=True)
class Bernoulli:
    """Fork with probability clip(alpha + beta·ΔH, 0, 1): what the reference code does, and our default.

    Args:
        alpha: base probability.
        beta: change of the probability per nat of ΔH.
    """

    alpha: float = 0.5
    beta: float = 0.2

    def __post_init__(self) -> None:
        """Refuses an alpha that is not a probability."""
        if not 0.0 <= self.alpha <= 1.0:
            raise ConfigError(f"alpha must be a probability, got {self.alpha}.")

    def forks(self, change: float, rng: np.random.Generator, *, factor: float = 1.0) -> bool:
        """Draws the decision for an entropy change; the probability is multiplied by `factor`."""
        return bool(rng.random() < self.probability(change, factor=factor))

    def probability(self, change: float, *, factor: float = 1.0) -> float:
        """Returns the probability of a fork for an entropy change, multiplied by `factor`."""
        return factor * min(1.0, max(0.0, self.alpha + self.beta * change))


@dataclass(frozen=True)
class Threshold:
    """Fork if alpha + beta·ΔH > tau: the rule as the paper writes it (Eq. 5).

    There is no default tau: with the published tau = alpha = 0.5 the rule is "fork if ΔH > 0",
    whatever beta is, so that setting is refused.

    Args:
        tau: threshold.
        alpha: base value.
        beta: weight of ΔH.
    """

    tau: float
    alpha: float = 0.5
    beta: float = 0.2

    def __post_init__(self) -> None:
        """Refuses settings in which beta has no effect."""
        if self.tau == self.alpha:
            raise ConfigError(
                f"tau = alpha = {self.tau} means 'fork if ΔH > 0': beta = {self.beta} would do nothing. "
                "Choose tau ≠ alpha, or the Bernoulli rule."
            )
        if self.beta == 0.0:
            raise ConfigError("beta = 0 makes every decision the same; use RandomBranching for a control without entropy.")

    def forks(self, change: float, rng: np.random.Generator, *, factor: float = 1.0) -> bool:
        """Decides for an entropy change; the value is multiplied by `factor`, and nothing is drawn."""
        return factor * (self.alpha + self.beta * change) > self.tau

    def probability(self, change: float, *, factor: float = 1.0) -> float:
        """Returns 1 where `forks` says yes, and 0 elsewhere."""
        return float(factor * (self.alpha + self.beta * change) > self.tau)


Normalisation = Literal["nats", "log_vocabulary", "vocabulary"]


def entropy_change(
    probe_T: Sequence[float],
    baseline_T: Sequence[float],
    *,
    tokens: int,
    vocabulary_size: int,
    normalisation: Normalisation = "nats",
) -> float:
    """Returns ΔH: how much more uncertain the policy is after a result than at the start of its path.

    Args:
        probe_T: entropies of the tokens after the result, nats per token.
        baseline_T: entropies of the first tokens of the path's root, nats per token.
        tokens: k; at most this many of each count.
        vocabulary_size: V.
        normalisation: "nats" takes the difference of means; "log_vocabulary" divides it by ln V
            (then it lies in [-1, 1]); "vocabulary" is Eq. 4 as written: the sum over tokens of the
            differences, divided by V.

    Returns:
        ΔH; 0 if either side is empty.

    Source: ARPO, Eq. 4. We depart from it in the default: a sum divided by V ≈ 1.5e5 is about 1e-4.

    >>> entropy_change([2.0, 1.0], [0.5, 0.5], tokens=20, vocabulary_size=100)
    1.0
    """
    probe, baseline = list(probe_T[:tokens]), list(baseline_T[:tokens])
    if not probe or not baseline:
        return 0.0
    if normalisation == "vocabulary":
        return sum(p - b for p, b in zip(probe, baseline, strict=False)) / vocabulary_size
    change = sum(probe) / len(probe) - sum(baseline) / len(baseline)
    return change / float(np.log(vocabulary_size)) if normalisation == "log_vocabulary" else change


@dataclass(frozen=True)
class EntropyBranching:
    """ARPO's rule: probe after each tool result, fork where the policy became uncertain.

    The tokens that triggered a fork stay as one child; the siblings start from the state before them.

    Args:
        roots: N, rollouts that start from the prompt; the rest of the budget is for forks.
        rule: `Bernoulli` or `Threshold`.
        probe: k, tokens sampled after a result before deciding.
        siblings: Z, paths added by one fork.
        normalisation: see `entropy_change`.

    Raises:
        ConfigError: a number is out of range.
    """

    roots: int
    rule: Bernoulli | Threshold = Bernoulli()
    probe: int = 20
    siblings: int = 1
    normalisation: Normalisation = "nats"
    keeps: Literal["none", "action"] = "none"
    forks: bool = True

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("roots", "probe", "siblings"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        """Starts the roots, then back-fills."""
        return roots_then_backfill(tree, left, self.roots)

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        """Asks for Z siblings if the rule says so."""
        return self.siblings if self.rule.forks(self._change(point), rng) else 0

    def weigh(self, point: BranchPoint) -> Weighed:
        """Returns the entropies that ΔH compares, and what the rule makes of it."""
        return heads(point, self.probe, self.rule.probability(self._change(point)))

    def _change(self, point: BranchPoint) -> float:
        return entropy_change(
            point.probe,
            point.baseline,
            tokens=self.probe,
            vocabulary_size=point.vocabulary_size,
            normalisation=self.normalisation,
        )
