"""`arpo doctor --cluster`: what each node of a Ray cluster has, and whether it is the same where it must be."""

import asyncio
from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from arpo_envs.tools.python import IsolationReport

from ..cluster import HERE, NodeAnswer, ask_nodes, differences, gathered, in_lines, in_words, joined, require_ray, versions_here
from .node import Node, Room, node_here

_GB = 1e9
_LEAST_FREE = 0.05
"""Share of a file system below which Ray stores no objects there any more."""
_LEAST_BYTES = 1e9
"""What temporary files of sandboxes and Ray's logs should find free."""

Answers = Sequence[NodeAnswer[Node]]


def doctor_cluster(console: Console, expected: int = 1) -> int:
    """Shows each node of the cluster; the exit status is 1 if a node does not answer, has other versions, or has no sandbox.

    Args:
        console: where to print.
        expected: how many nodes to wait for; fewer are a fault, too.

    Raises:
        ConfigError: there is no Ray, or its cluster cannot be reached.
    """
    require_ray()
    with console.status("asking every node …"):
        answers, here = asyncio.run(_asked(expected)), versions_here()
    faults = faults_of(answers, here)
    if len(answers) < expected:
        faults.insert(0, f"Only {_count(len(answers), 'node')} of {expected} joined the cluster in time.")
    shown = [_nodes(answers), Text(), _versions(answers, here), Text()]
    if advice := advice_on(answers):
        shown += [Text(f"• {line}", style="yellow") for line in advice] + [Text()]
    if faults:
        shown += [Text("This cluster is not ready:", style="bold red"), *(Text(f"• {line}") for line in faults)]
    else:
        shown += [Text(f"{_count(len(answers), 'node')} can take engines, with the versions of this process.", style="green")]
    console.print(Group(*shown), highlight=False)
    return 1 if faults else 0


async def _asked(expected: int) -> Answers:
    async with joined():
        await gathered(expected)
        return await ask_nodes(node_here)


def faults_of(answers: Answers, here: Mapping[str, str]) -> list[str]:
    """Returns why a run should not start on these nodes, each reason in a line; none if it can.

    Args:
        answers: of all nodes.
        here: the versions of this process.
    """
    faults = [f"{answer.node}: {answer.fault}." for answer in answers if answer.fault]
    faults += [f"{line}. Install the same everywhere." for line in in_lines(_found(answers, here))]
    for answer in answers:
        if answer.value is not None:
            isolation = answer.value.isolation
            faults += [f"{answer.node}: Python sessions cannot start: {line}" for line in isolation.missing_minimum()]
            faults += [f"{answer.node}: {line}" for line in isolation.unkept()]
    return faults


def advice_on(answers: Answers) -> list[str]:
    """Returns what works and should be better, each in a line.

    Args:
        answers: of all nodes.
    """
    advice = []
    for answer in answers:
        if (node := answer.value) is None:
            continue
        store, gpus = answer.resources.get("object_store_memory", 0.0), int(answer.resources.get("GPU", 0))
        if node.shared_memory is None or node.shared_memory.total < store:
            size = _gb(node.shared_memory.total if node.shared_memory else 0)
            advice.append(f"{answer.node}: /dev/shm has {size}, less than Ray's store of {_gb(store)}; on a disk it is slow.")
        if (free := node.temporary) is not None and free.free < max(_LEAST_BYTES, _LEAST_FREE * free.total):
            advice.append(f"{answer.node}: only {_gb(free.free)} of {_gb(free.total)} are free for temporary files.")
        if gpus > len(node.gpus.found):
            why = node.gpus.fault or "install a build of torch for CUDA, and NVIDIA's driver"
            advice.append(f"{answer.node}: Ray deals out {_count(gpus, 'GPU')}, and torch sees {len(node.gpus.found)}: {why}.")
    return advice


def level(isolation: IsolationReport) -> str:
    """Returns in a few words how a model's code is confined."""
    if isolation.missing_minimum():
        return "none: sessions cannot start"
    if isolation.unkept():
        return "not every promise is kept"
    landlock = f", Landlock {isolation.layers.landlock}" if isolation.layers.landlock else ""
    return f"namespaces{landlock}" if isolation.layers.namespaces else f"weaker: no namespaces{landlock}"


def _found(answers: Answers, here: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    return {HERE: here} | {answer.node: answer.value.versions for answer in answers if answer.value is not None}


def _nodes(answers: Answers) -> RenderableType:
    table = Table(title="Nodes of the Ray cluster", title_justify="left", pad_edge=False, box=None, padding=(0, 2, 0, 0))
    for heading in ("", "node", "processors", "memory", "GPUs", "sandbox", "/dev/shm", "temporary files"):
        table.add_column(heading, overflow="fold")
    for answer in answers:
        mark = Text("✗", style="red") if answer.fault else Text("✓", style="green")
        dealt = [f"{answer.resources.get('CPU', 0):g}", _gb(answer.resources.get("memory", 0.0))]
        if (node := answer.value) is None:
            table.add_row(mark, Text(answer.node, style="bold"), *dealt, Text(answer.fault, style="red"))
            continue
        rest = [level(node.isolation), _room(node.shared_memory), _room(node.temporary)]
        table.add_row(mark, Text(answer.node, style="bold"), *dealt, _gpus(node, int(answer.resources.get("GPU", 0))), *rest)
    return table


def _gpus(node: Node, dealt: int) -> str:
    """Returns the kinds of GPUs, how many of them Ray deals out, and the driver."""
    kinds: dict[tuple[str, int], int] = {}
    for one in node.gpus.found:
        kinds[one] = kinds.get(one, 0) + 1
    listed = ", ".join(f"{count} × {name}, {_gb(memory)}" for (name, memory), count in kinds.items()) or "none"
    if dealt != len(node.gpus.found):
        listed += f" (Ray deals out {dealt})"
    return f"{listed}, driver {node.gpus.driver}" if node.gpus.driver else listed


def _versions(answers: Answers, here: Mapping[str, str]) -> RenderableType:
    """Returns a table of what is installed, and where it is if not everywhere."""
    found = _found(answers, here)
    table = Table(title="Versions", title_justify="left", pad_edge=False, box=None, padding=(0, 2, 0, 0))
    for heading in ("", "package", "version", "on"):
        table.add_column(heading, overflow="fold")
    differing = differences(found)
    for name in here:
        places: dict[str, list[str]] = {}
        for place, own in found.items():
            places.setdefault(own.get(name, "unknown"), []).append(place)
        for number, names in places.items():
            where = f"{_count(len(found) - 1, 'node')} and {HERE}" if len(places) == 1 else in_words(names)
            mark = Text("✗", style="red") if name in differing else Text("✓", style="green")
            table.add_row(mark, Text(name, style="bold"), number, Text(where, style="dim"))
    return table


def _room(room: Room | None) -> str:
    return "none" if room is None else f"{_gb(room.free)} of {_gb(room.total)} free"


def _gb(count: float) -> str:
    return f"{count / _GB:,.1f} GB"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
