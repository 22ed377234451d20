"""Random trees for packing: deep, with forks anywhere, empty nodes, and several ends."""

from dataclasses import replace
from typing import Any

import numpy as np
from rollout_toys import node

from algorithms.tree import NO_PARENT, RolloutTree, Status


def random_tree(seed: int, *, nodes: int = 14, longest: int = 6, vocabulary: int = 60, depth: int = 6) -> RolloutTree:
    """A frozen tree grown at random: forks after prompts, observations and inside actions; some nodes have no tokens."""
    rng = np.random.default_rng(seed)

    def drawn(least: int) -> list[int]:
        return rng.integers(0, vocabulary, size=int(rng.integers(least, longest + 1))).tolist()

    tree = RolloutTree("random")
    tree.add(node((), NO_PARENT, drawn(2)))
    for _ in range(nodes):
        parent = int(rng.integers(len(tree.nodes)))
        above = tree.nodes[parent]
        if len(above.key) >= 2 * depth:
            continue
        inside = above.kind == "action" and len(above.tokens) > 1 and rng.random() < 0.3
        at = int(rng.integers(1, len(above.tokens))) if inside else len(above.tokens)
        kind = "action" if inside or above.kind != "action" else "observation"
        ordinal = sum(one.parent == parent for one in tree.nodes)
        tree.add(node((*above.key, ordinal), parent, drawn(1 if kind == "action" else 0), kind=kind, parent_at=at))
    inner = {one.parent for one in tree.nodes if one.parent_at == len(tree.nodes[max(0, one.parent)].tokens)}
    for i, one in enumerate(tree.nodes):
        changes: dict[str, Any] = {
            "logprobs": tuple(rng.normal(-4.0, 0.3, len(one.tokens)) * np.array(one.sampled, dtype=float))
        }
        if i not in inner:
            changes |= {"status": Status.ANSWERED, "reward": float(rng.normal())}
        tree.nodes[i] = replace(one, **changes)
    return tree.freeze()


def comb(forks: int) -> RolloutTree:
    """A chain in which every action is followed by a fork: as deep as it has leaves."""
    tree = RolloutTree("comb")
    tree.add(node((), NO_PARENT, [1, 2]))
    parent, key = 0, ()
    for i in range(forks):
        at = len(tree.nodes[parent].tokens)
        tree.add(node((*key, 1), parent, [3 + i % 50], parent_at=at, status=Status.ANSWERED, reward=float(i % 2)))
        key = (*key, 0)
        parent = tree.add(node(key, parent, [4 + i % 50], parent_at=at))
    tree.nodes[parent] = replace(tree.nodes[parent], status=Status.ANSWERED, reward=1.0)
    return tree.freeze()
