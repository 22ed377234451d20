"""pass@k: the chance that at least one of k answers to a question is right."""

import math


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Returns the unbiased estimate of pass@k from n answers to a question, of which c are right: 1 − C(n−c, k) / C(n, k).

    It is the share of all sets of k answers that contain a right one. The power 1 − (1 − c/n)^k, which is often computed
    instead, is too low. The numerator and the denominator are whole numbers, so only the division rounds.

    Args:
        samples: n.
        right: c.
        k: from 1 to n.

    Raises:
        ValueError: k or c is out of range.

    Source: Chen et al. (arXiv 2107.03374), Eq. 1.

    >>> [pass_at_k(4, 1, k) for k in (1, 2, 4)]
    [0.25, 0.5, 1.0]
    """
    if not 1 <= k <= samples:
        raise ValueError(f"k must lie between 1 and the number of answers, {samples}; got {k}.")
    if not 0 <= right <= samples:
        raise ValueError(f"Between 0 and {samples} answers can be right, got {right}.")
    sets = math.comb(samples, k)
    return (sets - math.comb(samples - right, k)) / sets
