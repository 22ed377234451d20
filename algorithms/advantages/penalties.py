"""A KL penalty as a reward for every token, for algorithms that penalise in the reward and not in the loss."""

import numpy as np

from arpo_envs import ConfigError

from ..losses import LIMIT
from ..tree import RolloutTree
from . import Array, Scores
from .paths import column


def kl_penalties(tree: RolloutTree, number: int, scores: Scores, coefficient: float) -> tuple[Array, ...]:
    """Returns −β (log π_old − log π_ref) of every sampled token of every leaf's path, 0 elsewhere.

    π_old is the policy that drew the token. The estimator is k1, which is unbiased as a reward. A difference beyond
    ±`losses.LIMIT` counts as that limit: the reference may forbid the token.

    Args:
        tree: frozen.
        number: index of the tree in the batch that was scored.
        scores: with reference log-probabilities, nats.
        coefficient: β.

    Raises:
        ConfigError: the scores hold no reference.
    """
    if scores.reference is None:
        raise ConfigError("A KL penalty in the reward needs 'reference' in the algorithm's `needs`.")
    penalties = []
    for leaf, reference_T in zip(tree.leaves(), scores.reference[number], strict=True):
        change_T = np.clip(column(tree, leaf, "logprobs") - reference_T, -LIMIT, LIMIT)
        penalties.append(np.where(column(tree, leaf, "sampled") > 0, -coefficient * change_T, 0.0))
    return tuple(penalties)
