"""A tree as the page reads it, and the line about it that the page has before the tree is opened."""

from collections import Counter
from typing import Any

import numpy as np

from ...tree import Node, RolloutTree

_DIGITS = 3


def outcome(tree: RolloutTree, leaf: int) -> str:
    """Returns "right" or "wrong", or "failed" where the end says nothing about the model."""
    node = tree.nodes[leaf]
    if node.status is None or not node.status.is_model:
        return "failed"
    return "right" if node.success == 1.0 else "wrong"


def record(tree: RolloutTree) -> dict[str, Any]:
    """Returns all of a tree that the page shows.

    Args:
        tree: frozen, so that every fork lies at the end of a node.
    """
    nodes = [_node(node) for node in tree.nodes]
    for leaf in tree.leaves():
        nodes[leaf] |= {"outcome": outcome(tree, leaf), "total": tree.total_reward(leaf)}
    return {"task": tree.task, "nodes": nodes}


def summary(tree: RolloutTree) -> dict[str, Any]:
    """Returns what the page's lists and its budget say of a tree.

    Args:
        tree: frozen.
    """
    leaves, calls = tree.leaves(), tree.tool_calls()
    outcomes = {leaf: outcome(tree, leaf) for leaf in leaves}
    paid = [tree.total_reward(leaf) for leaf in leaves]
    ends = Counter((outcomes[leaf], str(tree.nodes[leaf].status)) for leaf in leaves)
    forks = _below_forks(tree, outcomes)
    return {
        "task": tree.task,
        "leaves": len(leaves),
        "ends": [[*end, count] for end, count in sorted(ends.items())],
        "reward": sum(paid) / len(paid) if paid else None,
        "tools": sorted({node.tool for node in tree.nodes if node.tool}),
        "calls": [calls.executed, calls.inherited, calls.replayed],
        "tokens": [sum(int(sum(n.sampled)) for n in tree.nodes), sum(int(sum(tree.sampled(leaf))) for leaf in leaves)],
        "considered": sum(node.decision is not None for node in tree.nodes),
        "forks": len(forks),
        "mixed": sum({"right", "wrong"} <= below for below in forks.values()),
    }


def _below_forks(tree: RolloutTree, outcomes: dict[int, str]) -> dict[int, set[str]]:
    """Returns the outcomes below each fork; that several paths start at the prompt is none."""
    children = Counter(node.parent for node in tree.nodes)
    forks: dict[int, set[str]] = {i: set() for i in range(1, len(tree.nodes)) if children[i] > 1}
    for leaf, found in outcomes.items():
        for segment in tree.path(leaf):
            if segment.node in forks:
                forks[segment.node].add(found)
    return forks


def _node(node: Node) -> dict[str, Any]:
    """Returns a node, without what is empty; log-probabilities and entropies only where the policy drew a token."""
    drew = list(node.sampled)
    given = {
        "parent": node.parent,
        "kind": node.kind,
        "origin": node.origin,
        "agent": node.agent,
        "text": node.text,
        "tokens": list(node.tokens),
        "sampled": [int(one) for one in drew] if any(drew) else None,
        "logprobs": _rounded(node.logprobs) if any(drew) else None,
        "entropies": _rounded(node.entropies) if any(drew) else None,
        "tool": node.tool,
        "toolStatus": node.tool_status,
        "replayed": node.replayed,
        "status": node.status,
        "fault": node.fault,
        "reward": node.reward,
        "success": node.success,
        "decision": node.decision._asdict() if node.decision is not None else None,
    }
    return {name: value for name, value in given.items() if value is not None and value not in ("", [])}


def _rounded(values: Any) -> list[float]:
    return list(np.round(np.asarray(values, np.float64), _DIGITS).tolist())
