"""Entropy from the likeliest tokens alone: what the top k of a backend tell about it, and how precisely."""

import math
from collections.abc import Collection
from typing import NamedTuple


class EntropyBounds(NamedTuple):
    """The least and the most that the entropy can be, nats."""

    least: float
    most: float

    @property
    def middle(self) -> float:
        """The estimate with the smallest possible error at worst: half the width."""
        return (self.least + self.most) / 2


def entropy_bounds(logprobs: Collection[float], k: int, vocabulary_size: int) -> EntropyBounds:
    """Returns bounds on the entropy of a distribution when only some of its log-probabilities are known.

    With r the remaining probability and p the smallest of the k largest ones, the unknown tokens add at least
    r log(1 / min(r, p)), as none of them is likelier than that, and at most r log((V - n) / r), if all are equally
    likely. Both are exact where the rest is zero or uniform; they differ by at most r log(p (V - n) / r) nats.

    Args:
        logprobs: [n], nats, at least one; they include those of the k likeliest tokens.
        k: how many of them are the likeliest ones; a drawn token outside the top k is known besides them.
        vocabulary_size: V.

    >>> uniform = entropy_bounds([math.log(1 / 8)] * 2, 2, 8)
    >>> round(uniform.least, 6) == round(uniform.most, 6) == round(math.log(8), 6)
    True
    """
    known = sorted((math.exp(logp) for logp in logprobs), reverse=True)
    entropy = -sum(p * math.log(p) for p in known if p > 0.0)
    rest, hidden = 1.0 - sum(known), vocabulary_size - len(known)
    if rest <= 1e-9 or hidden < 1:
        return EntropyBounds(entropy, entropy)
    likeliest = max(min(rest, known[min(k, len(known)) - 1]), rest / hidden)  # rounding must not cross the bounds
    return EntropyBounds(entropy - rest * math.log(likeliest), entropy + rest * math.log(hidden / rest))
