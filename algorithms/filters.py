"""Which trees to train on: predicates for `Algorithm.keep`."""

from .advantages import rewards
from .advantages.rounding import are_equal
from .tree import RolloutTree


def unequal_rewards(tree: RolloutTree) -> bool:
    """Whether the valid leaves earned different rewards; a group of equals has no group-relative advantage.

    How many trees are dropped is the difference between the prompts of a step and its `kept_prompts`.
    """
    reward_L, valid_L = rewards(tree)
    return not are_equal(reward_L[valid_L])


def mixed_success(tree: RolloutTree) -> bool:
    """Whether some, but not all valid leaves succeeded: 0 < correct < G, by success and not by reward.

    Where the environment does not say what a success is, rewards decide.

    Source: DAPO (arXiv 2503.14476), Eq. 11, the constraint of dynamic sampling.
    """
    ends = [tree.nodes[leaf] for leaf in tree.leaves()]
    found = [end.success for end in ends if end.status is not None and end.status.is_model]
    known = [success for success in found if success is not None]
    if not known:
        return unequal_rewards(tree)
    return max(known) > min(known)
