"""Group in group: whole episodes are compared, and, within them, actions taken in the same state of the environment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arpo_envs import ConfigError

from ..tree import RolloutTree
from . import Array, Credit, Scores, require_frozen, rewards, sampled_weights, spread
from .group import Deviation, group_normalise


@dataclass(frozen=True)
class Step:
    """One action on one leaf's path.

    Args:
        nodes: its pieces; an action with a fork inside has several.
        anchor: name of the environment's state before it; None if it is like no other.
        reward: what it earned.
    """

    nodes: tuple[int, ...]
    anchor: str | None
    reward: float


def steps_of(tree: RolloutTree, leaf: int) -> list[Step]:
    """Returns the actions of a path, in order."""
    steps: list[Step] = []
    for index, _ in tree.path(leaf):
        node = tree.nodes[index]
        if node.kind != "action":
            continue
        reward = node.reward or 0.0
        if steps and steps[-1].nodes[-1] == node.parent:
            steps[-1] = Step((*steps[-1].nodes, index), steps[-1].anchor, steps[-1].reward + reward)
        else:
            steps.append(Step((index,), node.anchor, reward))
    return steps


def discounted(rewards: Sequence[float], discount: float) -> list[float]:
    """Returns R_t = Σ_k γ^k r_{t+k} for every step.

    >>> discounted([0.0, 1.0, 2.0], 0.5)
    [1.0, 2.0, 2.0]
    """
    returns: list[float] = []
    for reward in reversed(rewards):
        returns.append(reward + discount * (returns[-1] if returns else 0.0))
    return returns[::-1]


@dataclass(frozen=True)
class GroupInGroup:
    """A = A_E + ω A_S: the episode against its group, each step's return against those of the same anchor state.

    Args:
        step_weight: ω.
        discount: γ per step.
        deviation: what both are divided by; "none" is the authors' default, "population" their alternative.

    Raises:
        ConfigError: a number is out of range; ω = 0 would be GRPO.

    Source: GiGPO (arXiv 2505.10978), Eq. 3 (episodes), 5 to 7 (anchor states), 8 (sum). A state that occurs once has
    A_S = 0. Groups are formed within a prompt. The authors' code takes means over steps even for episodes; the paper,
    and we, take them over episodes.
    """

    step_weight: float = 1.0
    discount: float = 0.95
    deviation: Deviation = "none"

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if not self.step_weight > 0.0:
            raise ConfigError(f"step_weight must be above 0, got {self.step_weight}; without it GiGPO is 'grpo'.")
        if not 0.0 <= self.discount <= 1.0:
            raise ConfigError(f"discount must lie in [0, 1], got {self.discount}.")

    def __call__(self, trees: Sequence[RolloutTree], scores: Scores) -> Credit:
        """Returns the credit of every token; see `AdvantageEstimator`."""
        advantages = tuple(spread(tree, self._per_node(tree)) for tree in trees)
        return Credit(advantages, tuple(sampled_weights(tree) for tree in trees))

    def _per_node(self, tree: RolloutTree) -> list[list[float]]:
        require_frozen(tree)
        reward_L, valid_L = rewards(tree)
        episode_L = group_normalise(reward_L, valid_L, deviation=self.deviation)
        steps = [steps_of(tree, leaf) for leaf in tree.leaves()]
        rows = []
        for leaf, episode, mine, of_step in zip(
            tree.leaves(), episode_L, steps, self._step_advantages(steps, valid_L), strict=True
        ):
            by_node = {node: advantage for step, advantage in zip(mine, of_step, strict=True) for node in step.nodes}
            rows.append([float(episode + self.step_weight * by_node.get(node, 0.0)) for node, _ in tree.path(leaf)])
        return rows

    def _step_advantages(self, steps: Sequence[Sequence[Step]], valid_L: np.ndarray) -> list[Array]:
        """Returns A_S of each leaf's steps."""
        returns = [discounted([step.reward for step in path], self.discount) for path in steps]
        groups: dict[str, list[tuple[int, int]]] = {}
        for leaf, path in enumerate(steps):
            for s, step in enumerate(path):
                if valid_L[leaf] and step.anchor is not None:
                    groups.setdefault(step.anchor, []).append((leaf, s))
        advantages = [np.zeros(len(path)) for path in steps]
        for members in groups.values():
            returned = np.array([returns[leaf][s] for leaf, s in members])
            compared = group_normalise(returned, np.ones(len(members), dtype=np.bool_), deviation=self.deviation)
            for (leaf, s), advantage in zip(members, compared, strict=True):
                advantages[leaf][s] = advantage
        return advantages
