"""The rollout tree; no algorithm is in this folder. `tracking/trees.py` writes trees to disk and reads them back.

A tree is flat and append-only, with parents by index. A node stores only the tokens it adds, and a trajectory is the walk
from a leaf to the root. A tree stores its values per token in a few arrays; its nodes have views of them.
"""

from .rollout_tree import NO_PARENT, Decision, Node, Origin, RolloutTree, Segment, Status, ToolCalls, total_tool_calls
from .spans import COLUMNS, Span, concatenated, repeated

__all__ = [
    "COLUMNS",
    "NO_PARENT",
    "Decision",
    "Node",
    "Origin",
    "RolloutTree",
    "Segment",
    "Span",
    "Status",
    "ToolCalls",
    "concatenated",
    "repeated",
    "total_tool_calls",
]
