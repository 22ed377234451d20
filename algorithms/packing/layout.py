"""Trees as packed rows: each unique token is computed once, and the loss still sees every leaf.

A row holds some leaves of one tree, each node's tokens once, in depth-first order. Token q sees token k exactly if
k ≤ q < end[k], where `end` is the place after everything below k's node: its ancestors and nothing else. A row of one
leaf is simply the flat row, so one scheme covers both, and everything between: a tree is cut at its forks wherever that is
cheaper, or where it would not fit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..tree import NO_PARENT, RolloutTree

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class PackedRow:
    """Some leaves of a tree, laid out so that every token they share occurs once.

    Args:
        tokens: [F] ids.
        position: [F], how many tokens precede each on its path.
        end: [F]; token q sees token k exactly if k <= q < end[k].
        leaves: indices of the leaves, as the caller counts them.
        index: for each leaf, [T]: where each token of its path is in the row.
    """

    tokens: Integers
    position: Integers
    end: Integers
    leaves: tuple[int, ...]
    index: tuple[Integers, ...]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Cost:
    """What a row of F tokens costs to compute: F + F² · pair, in tokens' worth.

    Args:
        pair: what attention between two tokens costs, relative to everything else a token costs.
        masked: a row of several leaves needs a mask, and its attention costs this many times as much as that of a plain
            row, whose upper half no kernel computes.
    """

    pair: float = 0.0
    masked: float = 3.0

    @classmethod
    def of(cls, config: object, parameters: int, masked: float = 3.0) -> "Cost":
        """Returns the cost for a model.

        Args:
            config: of a `transformers` model.
            parameters: of its body, without embedding and head.
            masked: see `Cost`.
        """
        layers, width = (int(getattr(config, name, 0) or 0) for name in ("num_hidden_layers", "hidden_size"))
        return cls(layers * width / max(1, parameters), masked)

    def __call__(self, tokens: int, leaves: int) -> float:
        """Returns the cost of a row."""
        return tokens + tokens**2 * self.pair * (self.masked if leaves > 1 else 1.0)


def pack(tree: RolloutTree, leaves: Sequence[int]) -> PackedRow:
    """Returns the row of some leaves of a tree.

    Args:
        tree: frozen, so that forks lie at ends of nodes and nodes are in depth-first order.
        leaves: positions in `tree.leaves()`, at least one.

    Raises:
        ValueError: the tree is not frozen, or there are no leaves.
    """
    if not tree.frozen or not leaves:
        raise ValueError("Packing needs a frozen tree and at least one leaf.")
    ends = tree.leaves()
    paths = [[node for node, _ in tree.path(ends[leaf])] for leaf in leaves]
    kept = sorted({node for path in paths for node in path})
    length = {node: len(tree.nodes[node].tokens) for node in kept}
    offset = dict(zip(kept, np.cumsum([0, *(length[node] for node in kept[:-1])]).tolist(), strict=True))
    below = _sums_below(tree, kept, length)
    depth: dict[int, int] = {}
    for node in kept:
        parent = tree.nodes[node].parent
        depth[node] = 0 if parent == NO_PARENT else depth[parent] + length[parent]
    return PackedRow(
        tokens=np.concatenate([np.asarray(tree.nodes[node].tokens, dtype=np.int64) for node in kept]),
        position=np.concatenate([np.arange(depth[node], depth[node] + length[node]) for node in kept]),
        end=np.repeat([offset[node] + below[node] for node in kept], [length[node] for node in kept]),
        leaves=tuple(leaves),
        index=tuple(np.concatenate([np.arange(offset[n], offset[n] + length[n]) for n in path]) for path in paths),
    )


def joined(rows: Sequence[PackedRow]) -> PackedRow:
    """Joins rows into one whose parts do not see each other.

    Args:
        rows: at least one.
    """
    offset = np.cumsum([0, *map(len, rows[:-1])]).tolist()
    return PackedRow(
        tokens=np.concatenate([row.tokens for row in rows]),
        position=np.concatenate([row.position for row in rows]),
        end=np.concatenate([row.end + start for row, start in zip(rows, offset, strict=True)]),
        leaves=tuple(leaf for row in rows for leaf in row.leaves),
        index=tuple(index + start for row, start in zip(rows, offset, strict=True) for index in row.index),
    )


def cut(tree: RolloutTree, leaves: Sequence[int], cost: Cost, budget: int) -> list[list[int]]:
    """Returns the leaves in groups, one row each, with the least total cost.

    Bottom up, the leaves below a node are either one row, or the best rows of each child: the prefix is then computed
    again for each. A row over the budget is not allowed, unless it is a single leaf.

    Args:
        tree: frozen.
        leaves: positions in `tree.leaves()`.
        cost: of a row.
        budget: largest row, in tokens.
    """
    ends = tree.leaves()
    here = {ends[leaf]: leaf for leaf in leaves}
    kept = sorted({node for end in here for node, _ in tree.path(end)})
    below = _sums_below(tree, kept, {node: len(tree.nodes[node].tokens) for node in kept})
    above: dict[int, int] = {}
    for node in kept:
        parent = tree.nodes[node].parent
        above[node] = 0 if parent == NO_PARENT else above[parent] + len(tree.nodes[parent].tokens)
    best: dict[int, float] = {}
    groups: dict[int, list[list[int]]] = {}
    children = _children(tree, kept)
    for node in reversed(kept):
        parts = [groups.pop(child) for child in children[node]]
        apart = sum(best.pop(child) for child in children[node])
        if node in here:
            parts.append([[here[node]]])
            apart += cost(above[node] + len(tree.nodes[node].tokens), 1)
        split = [group for part in parts for group in part]
        together = sorted(leaf for group in split for leaf in group)
        tokens = above[node] + below[node]
        whole = cost(tokens, len(together)) if tokens <= budget or len(together) == 1 else float("inf")
        best[node], groups[node] = (whole, [together]) if whole <= apart else (apart, split)
    return [group for node in sorted(groups) for group in groups[node]]


def plan(trees: Sequence[RolloutTree], wanted: Sequence[int], cost: Cost, budget: int) -> list[PackedRow]:
    """Returns the rows that cover the wanted leaves of a batch of trees.

    Args:
        trees: frozen.
        wanted: indices of leaves, counted through all trees as in `flat.rows_of`, like those in the result.
        cost: of a row.
        budget: largest row, in tokens.
    """
    left, first, rows = set(wanted), 0, []
    for tree in trees:
        count = len(tree.leaves())
        here = [leaf for leaf in range(count) if first + leaf in left]
        for group in cut(tree, here, cost, budget) if here else []:
            row = pack(tree, group)
            rows.append(replace(row, leaves=tuple(first + leaf for leaf in row.leaves)))
        first += count
    return rows


def batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Yields indices of rows of similar length, with padded length × rows at most `token_budget` (or one row)."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    batch: list[int] = []
    for i in order:
        if batch and lengths[i] * (len(batch) + 1) > token_budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _children(tree: RolloutTree, kept: Sequence[int]) -> dict[int, list[int]]:
    """Returns the kept children of every kept node."""
    children: dict[int, list[int]] = {node: [] for node in kept}
    for node in kept:
        if tree.nodes[node].parent != NO_PARENT:
            children[tree.nodes[node].parent].append(node)
    return children


def _sums_below(tree: RolloutTree, kept: Sequence[int], length: dict[int, int]) -> dict[int, int]:
    """Returns for every kept node the tokens in it and below it."""
    below = dict(length)
    for node in reversed(kept):
        parent = tree.nodes[node].parent
        if parent != NO_PARENT:
            below[parent] += below[node]
    return below
