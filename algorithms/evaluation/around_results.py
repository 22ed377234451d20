"""Token entropy around tool results, per tool: the measurement that ARPO starts from, with intervals.

Source: ARPO (arXiv 2507.19849), section 2.2, the pilot experiment.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..branching.entropy import entropy_change
from ..tree import NO_PARENT, RolloutTree

Question = tuple[str, tuple[int, ...]]
"""The environment of a mixture, and the prompt's tokens."""
Cell = tuple[str, str, int]
"""Tool, kind of number, position or round."""


@dataclass(frozen=True)
class Average:
    """A mean and its 95% interval.

    Args:
        mean: in nats.
        low: lower end; NaN where fewer than two questions say anything.
        high: upper end, likewise.
        count: of the numbers averaged.
        questions: that they come from.
    """

    mean: float
    low: float
    high: float
    count: int
    questions: int


@dataclass(frozen=True)
class ToolProfile:
    """What the policy's entropy does around the results of one tool.

    Args:
        results: of this tool, each counted once however many paths inherit it.
        at: by position: −1 is the last token of the call, 1 the first token after the result; there is no 0.
        change: ΔH after a result as ARPO computes it, in nats per token.
        rounds: mean entropy of the first k tokens after a result, by how many calls the path has made by then.
    """

    results: int
    at: dict[int, Average]
    change: Average | None
    rounds: dict[int, Average]


@dataclass(frozen=True)
class EntropyProfile:
    """Entropy around tool results.

    Args:
        tokens: k, how many tokens before and after a result.
        average: of all sampled tokens.
        start: of the first k tokens of each rollout.
        tools: by name, in alphabetical order.
    """

    tokens: int
    average: Average
    start: Average
    tools: dict[str, ToolProfile]


def entropy_profile(trees: Sequence[RolloutTree], *, tokens: int = 20, seed: int = 0, resamples: int = 1000) -> EntropyProfile:
    """Returns the mean entropy before and after tool results, per tool and position.

    A token that several paths share counts once. After a result every action drawn there counts, so that in averages a result
    weighs as often as paths continued it. Tokens that the policy did not draw are left out, and positions do not count them.
    Intervals are percentiles of a bootstrap over questions, so that the rollouts of one question stay together.

    Args:
        trees: frozen.
        tokens: k.
        seed: of the bootstrap.
        resamples: how often it draws.

    Raises:
        ValueError: a tree is not frozen, `tokens` or `resamples` is below 1, or no token was sampled.
    """
    if tokens < 1 or resamples < 1 or not all(tree.frozen for tree in trees):
        raise ValueError("entropy_profile() takes frozen trees, and tokens and resamples of at least 1.")
    values: dict[Cell, dict[Question, list[float]]] = defaultdict(lambda: defaultdict(list))
    for tree in trees:
        question = (str(tree.meta.get("env", "")), tuple(tree.nodes[0].tokens))
        for cell, value in _numbers(tree, tokens):
            values[cell][question].append(value)
    if ("", "average", 0) not in values:
        raise ValueError("No token was sampled in these trees.")
    questions = sorted({question for found in values.values() for question in found})
    rng, uniform = np.random.default_rng(seed), np.full(len(questions), 1 / len(questions))
    drawn_MU = rng.multinomial(len(questions), uniform, size=resamples)
    averages = {cell: _average(found, questions, drawn_MU) for cell, found in values.items()}
    tools = sorted({tool for tool, _, _ in averages} - {""})
    whole, start = averages["", "average", 0], averages["", "start", 0]
    return EntropyProfile(tokens, whole, start, {tool: _of_tool(averages, tool) for tool in tools})


def _of_tool(averages: dict[Cell, Average], tool: str) -> ToolProfile:
    """Returns what was found about one tool."""

    def by_number(kind: str) -> dict[int, Average]:
        return {cell[2]: averages[cell] for cell in sorted(averages) if cell[:2] == (tool, kind)}

    change, results = averages.get((tool, "change", 0)), averages[tool, "result", 0].count
    return ToolProfile(results, by_number("at"), change, by_number("round"))


def _average(found: dict[Question, list[float]], questions: list[Question], drawn_MU: NDArray[np.int64]) -> Average:
    """Returns a mean over all numbers, and its interval over resampled questions."""
    sum_U = np.array([math.fsum(found.get(question, ())) for question in questions])  # exact: independent of the order
    count_U = np.array([len(found.get(question, ())) for question in questions])
    total = int(count_U.sum())
    mean = math.fsum(sum_U) / total
    if len(found) < 2:
        return Average(mean, math.nan, math.nan, total, len(found))
    sum_M, count_M = drawn_MU @ sum_U, drawn_MU @ count_U
    said = count_M > 0
    if not said.any():
        return Average(mean, math.nan, math.nan, total, len(found))
    low, high = np.percentile(sum_M[said] / count_M[said], [2.5, 97.5])
    return Average(mean, float(low), float(high), total, len(found))


def _numbers(tree: RolloutTree, tokens: int) -> Iterator[tuple[Cell, float]]:
    """Yields each number of a tree once, with the cell it belongs to."""
    children: dict[int, list[int]] = defaultdict(list)
    for index, node in enumerate(tree.nodes):
        children[node.parent].append(index)
        if node.kind == "action":
            yield from ((("", "average", 0), value) for value in _drawn(tree, index))
    yield from ((("", "start", 0), value) for _, value in _first(tree, children, 0, tokens))
    for index, node in enumerate(tree.nodes):
        if node.kind != "observation" or not (tool := tree.nodes[node.parent].tool):
            continue
        yield (tool, "result", 0), 0.0
        before = _action_up_to(tree, node.parent)[-tokens:]
        yield from (((tool, "at", place - len(before)), value) for place, value in enumerate(before))
        for position, value in _first(tree, children, index, tokens):
            yield (tool, "at", position), value
            yield (tool, "round", tree.depth(index)), value
        for probe, end in _probes(tree, children, index, tokens):
            baseline = _baseline(tree, end)
            yield (tool, "change", 0), entropy_change(probe, baseline, tokens=tokens, vocabulary_size=2)


def _drawn(tree: RolloutTree, index: int) -> list[float]:
    """Returns the entropies of the tokens of a node that the policy drew."""
    node = tree.nodes[index]
    return [float(value) for value, own in zip(node.entropies, node.sampled, strict=True) if own]


def _action_up_to(tree: RolloutTree, index: int) -> list[float]:
    """Returns the entropies of an action, from its start to the end of one of its pieces."""
    pieces = []
    while index != NO_PARENT and tree.nodes[index].kind == "action":
        pieces.append(_drawn(tree, index))
        index = tree.nodes[index].parent
    return [value for piece in reversed(pieces) for value in piece]


def _first(tree: RolloutTree, children: dict[int, list[int]], above: int, tokens: int) -> Iterator[tuple[int, float]]:
    """Yields each of the first tokens below a node, once, with its position, from 1 on."""
    waiting = [(child, 0) for child in children[above]]
    while waiting:
        index, passed = waiting.pop()
        if tree.nodes[index].kind != "action" or passed >= tokens:
            continue
        own = _drawn(tree, index)
        yield from ((passed + 1 + place, value) for place, value in enumerate(own[: tokens - passed]))
        waiting += [(child, passed + len(own)) for child in children[index]]


def _probes(tree: RolloutTree, children: dict[int, list[int]], above: int, tokens: int) -> Iterator[tuple[list[float], int]]:
    """Yields each different beginning of an action below a node, with the node it ends in."""
    waiting: list[tuple[int, list[float]]] = [(child, []) for child in children[above]]
    while waiting:
        index, so_far = waiting.pop()
        if tree.nodes[index].kind != "action":
            continue
        probe = (so_far + _drawn(tree, index))[:tokens]
        below = [child for child in children[index] if tree.nodes[child].kind == "action"]
        if len(probe) == tokens or not below:
            if probe:
                yield probe, index
            continue
        waiting += [(child, probe) for child in below]


def _baseline(tree: RolloutTree, index: int) -> list[float]:
    """Returns the entropies of the first action on the path to a node."""
    found: list[float] = []
    for node, _ in tree.path(index)[1:]:
        if tree.nodes[node].kind != "action":
            break
        found += _drawn(tree, node)
    return found
