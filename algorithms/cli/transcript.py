"""An episode as a person reads it: the question, what the model wrote, what it was told, and how it ended."""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from ..tree import RolloutTree

_INDENT = (0, 0, 0, 2)


def transcript(tree: RolloutTree, leaf: int, title: str = "") -> RenderableType:
    """Returns the path to a leaf as a panel."""
    nodes = [tree.nodes[segment.node] for segment in tree.path(leaf)]
    parts: list[RenderableType] = []
    for node, after in zip(nodes, [*nodes[1:], None], strict=True):
        if node.kind == "prompt":
            parts.append(Text(node.text.strip(), style="bold"))
        elif node.kind == "observation":
            parts.append(Padding(Text(node.text.strip(), style="dim"), _INDENT))
        elif after is None or after.kind == "observation":  # an action that was split has its text in its last piece
            parts.append(Padding(Text(node.text.strip() or "(nothing)", style="cyan"), _INDENT))
    end = nodes[-1]
    style = "green" if end.success == 1.0 else "red" if end.success is not None else "yellow"
    parts.append(Text(_ending(tree, leaf), style=style))
    return Panel(Group(*parts), title=Text(title), title_align="left", border_style="dim")


def _ending(tree: RolloutTree, leaf: int) -> str:
    status = str(tree.nodes[leaf].status).replace("_", " ")
    why = f" ({tree.nodes[leaf].fault})" if tree.nodes[leaf].fault else ""
    return f"{status}{why} · reward {tree.total_reward(leaf):g}"
