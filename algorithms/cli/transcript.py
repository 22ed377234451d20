"""An episode as a person reads it: the question, what the model wrote, what it was told, and how it ended."""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from arpo_envs.screen import readable

from ..tree import Node, RolloutTree

_INDENT = (0, 0, 0, 2)


def transcript(tree: RolloutTree, leaf: int, title: str = "", *, numbers: bool = False) -> RenderableType:
    """Returns the path to a leaf as a panel; with `numbers`, tools and means per token stand under the actions."""
    nodes = [tree.nodes[segment.node] for segment in tree.path(leaf)]
    parts: list[RenderableType] = []
    for node, after in zip(nodes, [*nodes[1:], None], strict=True):
        if node.kind == "prompt":
            parts.append(Text(readable(node.text.strip()), style="bold"))
        elif node.kind == "observation":
            parts.append(Padding(Text(readable(node.text.strip()), style="dim"), _INDENT))
        elif after is None or after.kind == "observation":  # an action that was split has its text in its last piece
            parts.append(Padding(Text(readable(node.text.strip()) or "(nothing)", style="cyan"), _INDENT))
        if numbers and len(node.tokens) and node.kind == "action":
            parts.append(Padding(Text(_numbers(node), style="dim italic"), _INDENT))
    end = nodes[-1]
    style = "green" if end.success == 1.0 else "red" if end.success is not None else "yellow"
    parts.append(Text(_ending(tree, leaf), style=style))
    return Panel(Group(*parts), title=Text(readable(title)), title_align="left", border_style="dim")


def _ending(tree: RolloutTree, leaf: int) -> str:
    status = str(tree.nodes[leaf].status).replace("_", " ")
    why = f" ({readable(tree.nodes[leaf].fault)})" if tree.nodes[leaf].fault else ""
    return f"{status}{why} · reward {tree.total_reward(leaf):g}"


def _numbers(node: Node) -> str:
    """Returns what is known of an action besides its text."""
    ran = f"ran {readable(node.tool)} {readable(node.tool_status)}".rstrip() + " · " if node.tool else ""
    entropy, logprob = (sum(values) / len(node.tokens) for values in (node.entropies, node.logprobs))
    return f"{ran}{len(node.tokens)} tokens · entropy {entropy:.3f} · log-probability {logprob:.3f} (nats per token)"
