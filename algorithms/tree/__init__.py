"""The rollout tree, and its way to the disk and back; there is no algorithm in this room.

A tree is flat and append-only, with parents by index. A node stores only the tokens it adds, and a trajectory is the walk
from a leaf to the root. What a tree holds per token lies in a few arrays; its nodes have views of them.
"""

from .files import (
    compress_trees,
    count_trees,
    forget_trees_before,
    keep_trees_before,
    read_tree,
    read_trees,
    write_trees,
)
from .rollout_tree import NO_PARENT, Node, Origin, RolloutTree, Segment, Status, ToolCalls, total_tool_calls
from .spans import COLUMNS, Span, concatenated, repeated

__all__ = [
    "COLUMNS",
    "NO_PARENT",
    "Node",
    "Origin",
    "RolloutTree",
    "Segment",
    "Span",
    "Status",
    "ToolCalls",
    "compress_trees",
    "concatenated",
    "count_trees",
    "forget_trees_before",
    "keep_trees_before",
    "read_tree",
    "read_trees",
    "repeated",
    "total_tool_calls",
    "write_trees",
]
