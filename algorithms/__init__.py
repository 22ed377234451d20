"""Pluggable reinforcement-learning algorithms for language-model agents, first of all ARPO.

Names are imported when first used: the rollout machinery runs without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .algorithm import Algorithm
    from .recipes import make, names
    from .rollout import Limits, Start, collect
    from .tree import Node, RolloutTree, Status

__all__ = ["Algorithm", "Limits", "Node", "RolloutTree", "Start", "Status", "collect", "make", "names"]

_HOMES = {
    "Algorithm": "algorithm",
    "Limits": "rollout",
    "Node": "tree",
    "RolloutTree": "tree",
    "Start": "rollout",
    "Status": "tree",
    "collect": "rollout",
    "make": "recipes",
    "names": "recipes",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'algorithms' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
