"""A rollout tree as lines of text: what paths share stands once, and each fork says why it was made."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from arpo_envs.screen import readable

from ..tree import Decision, Node, RolloutTree

_STEPS = {"action": ("▸", "cyan"), "observation": ("◂", "dim")}


def drawn(tree: RolloutTree, wanted: Sequence[int]) -> RenderableType:
    """Returns the paths to some leaves of a frozen tree for a terminal; leaves are numbered from 1, in order of their keys."""
    below: dict[int, list[int]] = {}
    for index in sorted({node for leaf in wanted for node, _ in tree.path(leaf)}):
        below.setdefault(tree.nodes[index].parent, []).append(index)
    leaves = {leaf: number for number, leaf in enumerate(tree.leaves(), 1)}
    top = Tree(_line(tree.nodes[0].text, "bold"), guide_style="dim")
    todo = [(child, top) for child in reversed(below.get(0, []))]
    while todo:
        index, under = todo.pop()
        lines, index = _chain(tree, index, below, leaves)
        branch = under.add(Group(*lines))
        todo += [(child, branch) for child in reversed(below.get(index, []))]
    return top


def _chain(
    tree: RolloutTree, index: int, below: Mapping[int, Sequence[int]], leaves: Mapping[int, int]
) -> tuple[list[Text], int]:
    """Returns the lines of the nodes down to the next fork or to the end, and the last of these nodes."""
    lines: list[Text] = []
    while True:
        node = tree.nodes[index]
        if node.text or node.status is None:
            lines.append(_step(node))
        if node.decision is not None:
            lines.append(_line(f"  {decision_text(node.decision)}", "magenta" if node.decision.granted else "dim magenta"))
        if index in leaves:
            lines.append(_end(tree, index, leaves[index]))
        following = below.get(index, [])
        if len(following) != 1:
            return lines, index
        index = following[0]


def _step(node: Node) -> Text:
    sign, style = _STEPS.get(node.kind, ("", "bold"))
    mark = f"{node.origin} " if node.origin in ("branch", "backfill") else ""
    failed = f"[{readable(node.tool_status)}] " if node.tool and node.tool_status not in ("", "ok") else ""
    return _line(f"{sign} {mark}{failed}{node.text.strip() or '(part of an action)'}", style)


def _line(text: str, style: str) -> Text:
    """Returns a text on one line, which ends in an ellipsis where the terminal does."""
    indent = text[: len(text) - len(text.lstrip(" "))]
    return Text(indent + " ".join(readable(text).split()), style=style, no_wrap=True, overflow="ellipsis")


def _end(tree: RolloutTree, leaf: int, number: int) -> Text:
    node = tree.nodes[leaf]
    style = "green" if node.success == 1.0 else "red" if node.success is not None else "yellow"
    why = f" ({node.fault})" if node.fault else ""
    return _line(f"  ■ leaf {number} · {str(node.status).replace('_', ' ')}{why} · reward {tree.total_reward(leaf):g}", style)


def decision_text(decision: Decision) -> str:
    """Returns a decision in words.

    >>> decision_text(Decision(0.25, 0.75, 0.6, 1, 1))
    'forked: 1 of 1 asked · entropy 0.250 → 0.750 · p 0.60'
    >>> decision_text(Decision(None, None, 0.5, 0, 0))
    'no fork · p 0.50'
    """
    if not decision.asked:
        said = "no fork"
    elif decision.granted:
        said = f"forked: {decision.granted} of {decision.asked} asked"
    else:
        said = f"no fork: {decision.asked} asked, budget spent"
    if decision.before is not None and decision.after is not None:
        said += f" · entropy {decision.before:.3f} → {decision.after:.3f}"
    return said if decision.probability is None else f"{said} · p {decision.probability:.2f}"
