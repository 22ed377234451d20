"""What a branching strategy is shown, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from ..tree import RolloutTree


@dataclass(frozen=True)
class Grow:
    """Add `count` children after the first `at` tokens of node `node`; node 0 means new roots.

    Args:
        node: index in the growing tree.
        at: how many of its tokens are kept.
        count: how many paths.
        fresh: whether new roots are roots like those of the first plan, with a share of the forks; otherwise
            roots of a later plan are back-fill.
    """

    node: int
    at: int
    count: int
    fresh: bool = False


@dataclass(frozen=True)
class BranchPoint:
    """What a strategy sees after a tool result.

    Args:
        key: of the observation node; its first ordinal is the root's number.
        tool_calls: run on this path so far, inherited ones included.
        forks: made on this path so far, those of its ancestors included.
        baseline: the entropy of each token of the first action on this path, in nats; forks inherit it.
        probe: the entropy of each token sampled after this result so far, in nats: at most `probe` of the strategy, fewer
            if the action ends sooner; empty without a probe.
        left: how many siblings the budget still allows.
        vocabulary_size: of the policy.
        consecutive: tool results in a row, up to the last one, at which this path forked or was forked off.
        actions: for each action the path sampled itself, since its root or its own fork, [T] entropies, nats; the
            last one called the tool.
        tool: name of the tool that ran.
        status: how that went: "ok", or the name of an error, as the environment reports it; "" if it does not.
        text: the result as the model sees it, cut to the context, in the dialect's tags.
    """

    key: tuple[int, ...]
    tool_calls: int
    forks: int
    baseline: tuple[float, ...]
    probe: tuple[float, ...]
    left: int
    vocabulary_size: int
    consecutive: int = 0
    actions: tuple[tuple[float, ...], ...] = ()
    tool: str = ""
    status: str = ""
    text: str = ""


@dataclass(frozen=True)
class Weighed:
    """What a decision after a tool result rests on, for people who read the tree.

    Args:
        before: mean entropy compared with, nats per token; None if nothing was compared.
        after: mean entropy looked at, nats per token; None likewise.
        probability: of asking for a sibling; None if unknown.
    """

    before: float | None
    after: float | None
    probability: float | None


@runtime_checkable
class Weighing(Protocol):
    """A branching strategy that says what its decisions rest on; this is optional, and changes no decision."""

    def weigh(self, point: BranchPoint) -> Weighed:
        """Returns what `on_result` looks at, and the probability with which it asks for a sibling."""
        ...


def weighed(strategy: object, point: BranchPoint, probe: int) -> Weighed:
    """Returns what a decision rests on; for a strategy that does not say, the entropies of its probe, if it has one.

    >>> weighed(object(), BranchPoint((0, 0), 1, 0, (0.5, 9.0), (1.5,), 2, 100), probe=1)
    Weighed(before=0.5, after=1.5, probability=None)
    """
    return strategy.weigh(point) if isinstance(strategy, Weighing) else heads(point, probe, None)


def heads(point: BranchPoint, probe: int, probability: float | None) -> Weighed:
    """Returns the mean entropies of the first `probe` tokens of the path and after the result, and a probability."""
    return Weighed(mean(point.baseline[:probe]), mean(point.probe[:probe]), probability)


def mean(entropies_T: Sequence[float]) -> float | None:
    """Returns the mean of some entropies; None if there are none."""
    return sum(entropies_T) / len(entropies_T) if entropies_T else None


@runtime_checkable
class BranchingStrategy(Protocol):
    """Decides where a tree grows.

    `keeps` is "action" if `plan` grows from inside the tree: then a snapshot is held at each action
    start until the tree closes. `probe` tokens are sampled after a tool result before `on_result`
    decides; 0 decides at once. `forks` is False if the environment is never cloned mid-episode.
    """

    @property
    def keeps(self) -> Literal["none", "action"]:
        """What is parked while the tree grows."""
        ...

    @property
    def probe(self) -> int:
        """k, tokens sampled before `on_result`."""
        ...

    @property
    def forks(self) -> bool:
        """Whether environments are cloned mid-episode."""
        ...

    @property
    def roots(self) -> int | None:
        """How many rollouts start from the prompt at first; None for all of them."""
        ...

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        """Says where to grow, at the start and whenever no path runs; an empty plan closes the tree."""
        ...

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        """Says how many siblings to add after a tool result."""
        ...


Memory = list[Any]
"""What an adapting strategy remembers of a run: JSON values, so that checkpoints hold it."""


@runtime_checkable
class Adapting(Protocol):
    """A branching strategy that follows what the trees of earlier steps showed; this is optional.

    It remains a value: what it remembers is handed to it. Who runs the steps keeps the memory, as `Trainer` does.
    """

    def remember(self, memory: Memory | None, trees: Sequence[RolloutTree], vocabulary_size: int) -> Memory:
        """Returns what is remembered after some more trees, which are frozen; `memory` is None before the first ones."""
        ...

    def adapted(self, memory: Memory, rollouts: int) -> BranchingStrategy:
        """Returns the strategy for the next trees of M rollouts each."""
        ...


def new_roots(tree: RolloutTree, count: int, *, fresh: bool = False) -> list[Grow]:
    """Plans `count` rollouts from the prompt."""
    return [Grow(0, len(tree.nodes[0].tokens), count, fresh)] if count > 0 else []


def roots_then_backfill(tree: RolloutTree, left: int, roots: int | None) -> list[Grow]:
    """Plans `roots` rollouts first, and all that is missing at once when no path is running."""
    started = bool(tree.roots())
    return new_roots(tree, left if started or roots is None else min(roots, left))
