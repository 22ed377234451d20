"""The best paths of a run as demonstrations: tokens as they were sampled, no text is encoded again."""

from collections.abc import Iterable

import numpy as np

from arpo_envs import ConfigError

from ...tree import RolloutTree
from .lesson import Lesson


def best_paths(trees: Iterable[RolloutTree], least: float) -> list[Lesson]:
    """Returns the paths that earned enough, of those whose ending says something about the policy.

    Args:
        trees: of a run.
        least: reward.

    Raises:
        ConfigError: there are none.
    """
    lessons, best = [], None
    for tree in trees:
        for leaf in tree.leaves():
            status, reward = tree.nodes[leaf].status, tree.total_reward(leaf)
            if status is None or not status.is_model:
                continue
            best = reward if best is None else max(best, reward)
            if reward >= least:
                lessons.append(Lesson(tree.along(leaf, "tokens").astype(np.int64), tree.along(leaf, "sampled").astype(bool)))
    if not lessons:
        highest = "has no paths that came to an end" if best is None else f"earned {best:g} at most"
        raise ConfigError(f"No path of the run earned a reward of {least:g}: it {highest}. Lower --min-reward.")
    return lessons
