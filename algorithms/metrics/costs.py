"""What a batch cost, and what it earned apart from forks: what two algorithms can be compared by."""

from collections.abc import Sequence

import numpy as np

from ..advantages import rewards
from ..tree import RolloutTree, total_tool_calls


def summarise_costs(trees: Sequence[RolloutTree]) -> dict[str, float]:
    """Returns the tool calls that a batch made, and its mean reward over paths without a fork.

    A path without a fork began at the prompt and was drawn as if nothing else had been, so that their mean estimates what the
    policy earns, whatever an algorithm forks. Below forks there are more paths where the algorithm chose to look.

    Args:
        trees: frozen.
    """
    calls = total_tool_calls(trees)
    earned = [reward for tree in trees for reward in _unforked_rewards(tree)]
    return {
        "tool_calls": float(calls.executed + calls.replayed),
        "unforked_reward": float(np.mean(earned)) if earned else 0.0,
    }


def _unforked_rewards(tree: RolloutTree) -> list[float]:
    """Returns the rewards of paths without a fork, without those that failed through no fault of the model."""
    reward_L, valid_L = rewards(tree)
    return [
        float(reward)
        for leaf, reward, is_valid in zip(tree.leaves(), reward_L, valid_L, strict=True)
        if is_valid and all(tree.nodes[index].origin != "branch" for index, _ in tree.path(leaf))
    ]
