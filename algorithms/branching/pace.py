"""How often to fork: the base probability at which the forks of a tree are expected to be as many as its budget allows.

Derivation. Let p_t be the probability of asking for Z siblings after result t of a path. A path that is about to be asked
for the t-th time becomes, in the mean, V_t = (1 + Z·p_t)·V_{t+1} paths: itself and Z·p_t siblings, each of which goes on
from the same state under the same policy and is asked again from result t + 1 on. A root that is asked C times so becomes
E[Π_t (1 + Z·p_t)] paths, where the mean is over single paths of the policy, nothing being forked (the "many-to-one" formula of
branching processes). N roots are to become M paths, so this must be M/N. For a constant p and C it is (1 + Z·p)^C.
"""

from collections.abc import Sequence
from math import inf, log

import numpy as np
from numpy.typing import NDArray

from arpo_envs import ConfigError


def log_expected_paths(probabilities_BD: NDArray[np.float64], siblings: int = 1) -> float:
    """Returns ln E[Π_t (1 + Z·p_t)], the logarithm of how many paths one root is expected to become.

    Args:
        probabilities_BD: [B, D], of asking at result t of path b; 0 where a path has no such result.
        siblings: Z, paths added by one fork.

    Raises:
        ValueError: there is no path, or a number is not a probability.

    >>> round(2.718281828459045 ** log_expected_paths(np.array([[0.5, 0.0], [0.5, 0.5]])), 6)  # the mean of 1.5 and 1.5²
    1.875
    """
    if probabilities_BD.ndim != 2 or not len(probabilities_BD):
        raise ValueError(f"expected an array of shape [paths, results] with at least one path, got {probabilities_BD.shape}.")
    if not ((probabilities_BD >= 0.0) & (probabilities_BD <= 1.0)).all():
        raise ValueError("expected probabilities, in [0, 1].")
    grown_B = np.log1p(siblings * probabilities_BD).sum(axis=1)  # a logarithm: long paths would overflow
    return float(np.logaddexp.reduce(grown_B) - log(len(grown_B)))


def spreading_alpha(changes: Sequence[Sequence[float]], *, growth: float, beta: float, siblings: int = 1) -> float:
    """Returns the alpha at which a root is expected to become M/N paths, if it forks with probability clip(alpha + beta·ΔH).

    Args:
        changes: of each path that was watched, ΔH after each of its tool results; paths may differ in length.
        growth: M/N, at least 1.
        beta: weight of ΔH in the probability.
        siblings: Z, paths added by one fork.

    Returns:
        alpha, which lies outside [0, 1] where ΔH alone would fork too often or too seldom. If even forking after every result
        is not enough, the least alpha that does that; 1 if no path has a result.

    Raises:
        ConfigError: growth, beta or siblings is out of range.
        ValueError: there is no path, or a change is not finite.

    >>> round(spreading_alpha([[0.0]], growth=2.0, beta=0.2), 4)  # one result: every root forks there
    1.0
    >>> round(spreading_alpha([[0.0] * 20], growth=2.0, beta=0.2), 4)  # twenty: the 20th root of 2, less 1
    0.0353
    >>> round(spreading_alpha([[1.0, -1.0]], growth=1.65, beta=0.2), 4)  # (1.3 + 0.2) (1.3 - 0.2) = 1.65
    0.3
    """
    if not (1.0 <= growth < inf and siblings >= 1 and np.isfinite(beta)):
        raise ConfigError(
            f"growth (M/N) and siblings (Z) must be at least 1 and beta finite, got {growth}, {siblings} and {beta}."
        )
    pull_BD, asked_BD = _padded(changes, beta)
    if not asked_BD.any():
        return 1.0
    low, high = -float(pull_BD[asked_BD].max()), 1.0 - float(pull_BD[asked_BD].min())

    def is_enough(alpha: float) -> bool:
        probabilities_BD = np.where(asked_BD, np.clip(alpha + pull_BD, 0.0, 1.0), 0.0)
        return log_expected_paths(probabilities_BD, siblings) >= log(growth)

    if not is_enough(high):
        return high
    while low < (middle := low + (high - low) / 2) < high:  # down to neighbouring numbers: it grows with alpha
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _padded(changes: Sequence[Sequence[float]], beta: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns beta·ΔH of each path and result, and where there is one."""
    shape = len(changes), max(map(len, changes), default=0)
    pull_BD, asked_BD = np.zeros(shape), np.zeros(shape, dtype=bool)
    for row, path in enumerate(changes):
        pull_BD[row, : len(path)] = beta * np.asarray(path, dtype=np.float64)
        asked_BD[row, : len(path)] = True
    if not len(changes) or not np.isfinite(pull_BD).all():
        raise ValueError("expected at least one path, and finite changes.")
    return pull_BD, asked_BD
