"""What forks were good for: pure functions of frozen trees, for logs."""

from collections.abc import Sequence

import numpy as np

from ..advantages import rewards
from ..tree import RolloutTree

FIRST_TOKENS = 20
"""How many tokens of an action count in `entropy_changes`; the k of the ARPO paper."""


def summarise_forks(trees: Sequence[RolloutTree]) -> dict[str, float]:
    """Returns the flat metrics of what trees share and where they fork; each is 0 if there is nothing to average.

    Args:
        trees: frozen.
    """
    valid = [(tree, reward_L[valid_L], valid_L) for tree in trees for reward_L, valid_L in [rewards(tree)]]
    reward_L = np.concatenate([np.zeros(0), *(reward for _, reward, _ in valid)])
    lengths = [
        float(tree.along(leaf, "sampled").sum())
        for tree, _, valid_L in valid
        for leaf, counts in zip(tree.leaves(), valid_L, strict=True)
        if counts
    ]
    return {
        "reward_std": float(reward_L.std()) if len(reward_L) else 0.0,
        "response_length": _mean(lengths),
        "unique_token_ratio": unique_token_ratio(trees),
        "fork_entropy_change": _mean([change for tree in trees for change in entropy_changes(tree)]),
        "sibling_reward_spread": _mean([spread for tree in trees for spread in sibling_spreads(tree)]),
        "mixed_outcome_forks": _mean([float(mixed) for tree in trees for mixed in mixed_outcomes(tree)]),
    }


def fork_points(tree: RolloutTree) -> dict[int, list[int]]:
    """Returns the nodes after which a path forked, each with all its children; roots and back-fill are no forks."""
    children: dict[int, list[int]] = {}
    for index, node in enumerate(tree.nodes):
        children.setdefault(node.parent, []).append(index)
    points = {node.parent for node in tree.nodes if node.origin == "branch"}
    return {point: children[point] for point in sorted(points)}


def entropy_changes(tree: RolloutTree) -> list[float]:
    """Returns for each fork how much more uncertain the policy was there than at the start of its path, nats per token.

    Mean entropy of the first `FIRST_TOKENS` tokens of the path that was forked, after the fork, less that of the first tokens
    of its root. Forks where either has no tokens are left out. A strategy may decide by fewer tokens.
    """
    found = []
    for point, children in fork_points(tree).items():
        path = [node for node, _ in tree.path(point)]
        forked = next((child for child in children if tree.nodes[child].origin != "branch"), None)
        if forked is None or len(path) < 2:
            continue
        after, before = (np.asarray(tree.nodes[node].entropies[:FIRST_TOKENS], np.float64) for node in (forked, path[1]))
        if len(after) and len(before):
            found.append(float(after.mean() - before.mean()))
    return found


def sibling_spreads(tree: RolloutTree) -> list[float]:
    """Returns for each fork the largest less the smallest of its children's mean rewards.

    Paths that failed through no fault of the model do not count; a fork with fewer than two children left is left out.
    """
    reward_L, valid_L = rewards(tree)
    reward_of = {leaf: float(r) for leaf, r, v in zip(tree.leaves(), reward_L, valid_L, strict=True) if v}
    found = []
    for children in _leaves_below_forks(tree):
        means = [_mean(own) for leaves in children if (own := [reward_of[leaf] for leaf in leaves if leaf in reward_of])]
        if len(means) > 1:
            found.append(max(means) - min(means))
    return found


def mixed_outcomes(tree: RolloutTree) -> list[bool]:
    """Returns for each fork whether the success of the paths below it differs; counted as in `sibling_spreads`."""
    _, valid_L = rewards(tree)
    success_of = {leaf: tree.nodes[leaf].success or 0.0 for leaf, v in zip(tree.leaves(), valid_L, strict=True) if v}
    found = []
    for children in _leaves_below_forks(tree):
        outcomes = [own for leaves in children if (own := [success_of[leaf] for leaf in leaves if leaf in success_of])]
        if len(outcomes) > 1:
            found.append(len({outcome for own in outcomes for outcome in own}) > 1)
    return found


def unique_token_ratio(trees: Sequence[RolloutTree]) -> float:
    """Returns the tokens that trees hold, divided by those of their paths written out one by one, prompts included."""
    total = sum(tree.length(leaf) for tree in trees for leaf in tree.leaves())
    return sum(len(node.tokens) for tree in trees for node in tree.nodes) / total if total else 0.0


def _leaves_below_forks(tree: RolloutTree) -> list[list[list[int]]]:
    """Returns for each fork, and each of its children, the leaves below."""
    above = {leaf: {node for node, _ in tree.path(leaf)} for leaf in tree.leaves()}
    forks = fork_points(tree).values()
    return [[[leaf for leaf, nodes in above.items() if child in nodes] for child in children] for children in forks]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
