"""Whether a Ray cluster has room for a run's engines: an actor that fits on no node would be waited for in vain."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

_STATUS = b"__autoscaling_status"
"""Where the monitor of a cluster's head writes what it knows, whether it starts nodes or not."""

Node = Mapping[str, Any]
"""An entry of `ray.nodes()`."""


def room(nodes: Sequence[Node], asked: Mapping[str, float]) -> int:
    """Returns for how many actors there is room if nothing else runs.

    Args:
        nodes: of the cluster.
        asked: resources for each actor; at least one of them is not 0.

    >>> nodes = [{"Alive": True, "Resources": {"CPU": 8.0, "GPU": gpus}} for gpus in (2.0, 0.5)]
    >>> room(nodes, {"CPU": 0.001, "GPU": 1.0}), room(nodes, {"CPU": 4.0, "GPU": 0.5}), room([], {"GPU": 1.0})
    (2, 3, 0)
    """
    wanted = {name: count for name, count in asked.items() if count > 0}
    return sum(
        min(int(node["Resources"].get(name, 0.0) / count + 1e-6) for name, count in wanted.items())
        for node in nodes
        if node["Alive"]
    )


def told(nodes: Sequence[Node], names: Sequence[str]) -> str:
    """Returns what the nodes of a cluster have, in words.

    >>> told([{"Alive": True, "NodeName": "a", "Resources": {"CPU": 8.0, "memory": 1e9}}], ["CPU", "GPU"])
    'a has 8 CPU and 0 GPU'
    """
    alive = [node for node in nodes if node["Alive"]]
    has = [
        f"{node['NodeName']} has " + " and ".join(f"{node['Resources'].get(name, 0.0):g} {name}" for name in names)
        for node in alive
    ]
    return "; ".join(has) or "there is no node"


def starts_nodes(status: str | bytes | None) -> bool:
    """Returns whether a cluster may get more nodes than it has.

    A cluster whose head was started without a configuration for that still has a monitor; it calls each node a type of its
    own, `node_` and its id. Any other type is one that it may start.

    Args:
        status: what the monitor writes; None if there is none, as in a cluster that was only just started.

    >>> starts_nodes('{"autoscaler_report": {"active_nodes": {"node_5f3a": 1}}}'), starts_nodes(None)
    (False, False)
    >>> starts_nodes('{"autoscaler_report": {"active_nodes": {"ray.head.default": 1}}}')
    True
    """
    report = json.loads(status).get("autoscaler_report") if status else None
    return any(not name.startswith("node_") for name in (report or {}).get("active_nodes", {}))


def may_grow() -> bool:
    """Returns whether the cluster that this process is connected to starts nodes when they are asked for."""
    from ray.autoscaler.v2.utils import is_autoscaler_v2
    from ray.experimental.internal_kv import _internal_kv_get

    return bool(is_autoscaler_v2(fetch_from_server=True)) or starts_nodes(_internal_kv_get(_STATUS))
