"""What the nodes of a Ray cluster say of themselves: each is asked the same, on the spot."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from arpo_envs import ConfigError

from ..rollout import reason
from .ray_actors import RayLauncher
from .versions import require_same_versions, versions_here

T = TypeVar("T")

HERE = "this process"
_PATIENCE = 300.0
"""Seconds that a node has to answer; most of them start a process and read its packages from a disk that others read, too."""


@dataclass(frozen=True)
class NodeAnswer(Generic[T]):
    """What a node answered.

    Args:
        node: its address and the first digits of its id, as several nodes may share a machine.
        resources: what Ray deals out there, such as "CPU", "GPU", and "memory" in bytes.
        value: the answer; None if there is none.
        fault: why there is none.
    """

    node: str
    resources: Mapping[str, float]
    value: T | None
    fault: str = ""


@asynccontextmanager
async def joined() -> AsyncIterator[None]:
    """Connects this process to the cluster that `RAY_ADDRESS` names, or to one that is started on this machine meanwhile.

    Raises:
        ConfigError: the cluster cannot be reached, or has another version of Ray or Python.
    """
    with tempfile.TemporaryDirectory(prefix="arpo-nodes-") as folder:
        try:
            launcher = RayLauncher(Path(folder), count=0)
        except RuntimeError as error:  # how Ray refuses other versions
            raise ConfigError(f"This process does not fit the Ray cluster. {str(error).strip()}") from error
        try:
            yield
        finally:
            await launcher.close()


async def gathered(count: int, within: float = _PATIENCE) -> bool:
    """Waits until so many nodes have joined the cluster; returns whether they have.

    Args:
        count: of nodes.
        within: seconds to wait at most.
    """
    for _ in range(max(1, round(within))):
        if len(_alive()) >= count:
            return True
        await asyncio.sleep(1.0)
    return False


async def ask_nodes(question: Callable[[], T], within: float = _PATIENCE) -> list[NodeAnswer[T]]:
    """Calls a function on every node of the cluster that this process has joined, also on those that are busy.

    Args:
        question: is importable there, and returns what can be pickled.
        within: seconds for all of them; a node that has not answered by then has a fault.
    """
    import ray

    nodes = _alive()
    asked = [_ask(question, node["NodeID"]) for node in nodes]
    if asked:
        await asyncio.wait([future for _, future in asked], timeout=within)
    answers: list[NodeAnswer[T]] = []
    for node, (task, future) in zip(nodes, asked, strict=True):
        name, resources = f"{node['NodeManagerAddress']} ({node['NodeID'][:6]})", node["Resources"]
        if not future.done():
            ray.cancel(task, force=True)
            future.cancel()
            answers.append(NodeAnswer(name, resources, None, f"no answer within {within:g} seconds"))
        elif (error := future.exception()) is not None:
            answers.append(NodeAnswer(name, resources, None, _short(error)))
        else:
            answers.append(NodeAnswer(name, resources, future.result()))
    return answers


async def require_same_nodes() -> list[str]:
    """Refuses a running cluster whose nodes have other versions than this process; a new one would be this machine alone.

    Returns:
        A line for each node that does not say which it has: the run may do without it.

    Raises:
        ConfigError: the cluster cannot be reached, or a node has other versions.
    """
    if (os.environ.get("RAY_ADDRESS") or "local") == "local":
        return []
    async with joined():
        answers = await ask_nodes(versions_here)
    found = {answer.node: answer.value for answer in answers if answer.value is not None}
    require_same_versions({HERE: versions_here()} | found)
    return [f"node {answer.node} does not say which versions it has: {answer.fault}" for answer in answers if answer.fault]


def _alive() -> list[dict[str, Any]]:
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    alive = [node for node in nodes if node["Alive"]]
    return sorted(alive, key=lambda node: (node["NodeManagerAddress"], node["NodeID"]))


def _ask(question: Callable[[], T], node: str) -> tuple[Any, asyncio.Future[T]]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    where = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(question).options(num_cpus=0, max_retries=0, scheduling_strategy=where).remote()
    return task, asyncio.wrap_future(task.future())


def _short(error: BaseException) -> str:
    """Returns why a task failed: what it raised itself, or the first line of what Ray says."""
    cause = getattr(error, "cause", None)
    return reason(cause) if isinstance(cause, Exception) else (str(error).strip().splitlines() or [type(error).__name__])[0]
