"""Forks at fixed numbers of tokens: the trees of TreePO and SPO.

Source: SPO (arXiv 2505.23564), tree-based estimation: a fixed tree of segments of M tokens; TreePO (arXiv 2508.17445),
section 2: segments, a fan-out at each, a limited width, and a fallback that branches from random segments.

Both papers grow all paths in step, a segment at a time. Here whole paths are grown and cut open afterwards: a path is drawn
from the same distribution whenever it is drawn, so the trees are the same, with fewer and longer requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from arpo_envs import ConfigError

from ..tree import RolloutTree
from .strategy import BranchPoint, Grow, new_roots

Place = tuple[int, int]
"""Where paths part: a node of the growing tree and how many of its tokens they share."""


@dataclass(frozen=True)
class SegmentBranching:
    """Forks after every `segment` tokens that the policy sampled on a path.

    Args:
        fan_outs: how many continuations the prompt has, then each path after its first segment, and so on.
        segment: tokens of a segment; tool results do not count.
        fallback: whether a budget that is left over goes to random segments; otherwise the tree stays smaller.

    Raises:
        ConfigError: a number is out of range.
    """

    fan_outs: tuple[int, ...]
    segment: int
    fallback: bool = False
    keeps: Literal["none", "action"] = "action"
    probe: int = 0
    forks: bool = True

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if len(self.fan_outs) < 2 or min(self.fan_outs) < 1 or max(self.fan_outs[1:]) < 2:
            raise ConfigError(f"fan_outs must be two numbers or more, not all 1 after the first; got {self.fan_outs}.")
        if self.segment < 1:
            raise ConfigError(f"A segment must have at least 1 token, got {self.segment}.")

    @property
    def roots(self) -> int | None:
        """The first fan-out."""
        return self.fan_outs[0]

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        """Starts the roots, then forks the shallowest segments that have too few continuations."""
        if not tree.roots():
            return new_roots(tree, min(self.fan_outs[0], left))
        ends = [place_of(tree, depth * self.segment) for depth in range(1, len(self.fan_outs))]
        for places, fan_out in zip(ends, self.fan_outs[1:], strict=True):
            missing = {place: fan_out - continuations(tree, place) for place in places}
            if plan := shared_out(missing, left):
                return plan
        if not self.fallback:
            return []
        anywhere = [place for places in ends for place in places]
        if not anywhere:
            return new_roots(tree, left)
        return [Grow(*anywhere[int(i)], 1) for i in rng.integers(len(anywhere), size=left)]

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        """Never forks while a path runs."""
        return 0


def place_of(tree: RolloutTree, sampled: int) -> list[Place]:
    """Returns the places at which paths have sampled this many tokens and sample another, each once, in order of keys."""
    places: dict[Place, None] = {}
    for leaf in tree.leaves():
        before = 0
        for (above, kept), (node, stop) in zip(tree.path(leaf), tree.path(leaf)[1:], strict=False):
            own = stop if tree.nodes[node].kind == "action" else 0
            if before <= sampled < before + own:
                inside = sampled - before
                places[(node, inside) if inside else (above, kept)] = None
                break
            before += own
    return list(places)


def continuations(tree: RolloutTree, place: Place) -> int:
    """Returns in how many different ways paths continue from a place."""
    node, at = place
    below = sum(child.parent == node and child.parent_at == at for child in tree.nodes)
    return below + (at < len(tree.nodes[node].tokens))


def shared_out(missing: dict[Place, int], left: int) -> list[Grow]:
    """Plans all that is missing or, where the budget is too small, one for each place in turn.

    >>> shared_out({(3, 1): 5, (7, 2): 1, (9, 1): 0}, left=4)
    [Grow(node=3, at=1, count=3, fresh=False), Grow(node=7, at=2, count=1, fresh=False)]
    """
    given = dict.fromkeys(missing, 0)
    while left > 0 and (hungry := [place for place in missing if given[place] < missing[place]]):
        for place in hungry[:left]:
            given[place] += 1
        left -= min(left, len(hungry))
    return [Grow(*place, count) for place, count in given.items() if count > 0]
