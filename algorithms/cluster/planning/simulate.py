"""Simulates the rollouts of one step: trees grow as `rollout.collect` grows them, on engines that share their rounds."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ... import seeds
from ...packing import batches
from .engine import Engine, Events, Request, Spent
from .machine import Deaths, Layout, Machine, Tools
from .work import Shape


@dataclass(frozen=True)
class Rolled:
    """What the rollouts of one step cost.

    Args:
        seconds: from the first prompt to the last leaf.
        sampled: tokens in the trees that the policy drew.
        turns: actions, and episodes that were opened.
        begun: paths, each with a clone of its environment.
        executed: tool calls.
        spent: what the engines did.
        controller_seconds: in which the controlling process was busy.
        deaths: engines that died.
        retries: requests that were sent again because of that.
        lost: tokens that were drawn twice because of that.
    """

    seconds: float
    sampled: int
    turns: int
    begun: int
    executed: int
    spent: Spent
    controller_seconds: float
    deaths: int = 0
    retries: int = 0
    lost: float = 0.0


Wait = Callable[[Callable[[], None]], None]
"""Given what goes on afterwards, arranges that it is called."""
Life = Generator[Wait, None, None]
"""A tree or a path: yields what it waits for."""


def roll_out(
    shapes: Sequence[Shape],
    machine: Machine,
    layout: Layout = Layout(),
    tools: Tools = Tools(),
    deaths: Deaths = Deaths(),
    *,
    seed: int = 0,
) -> Rolled:
    """Returns what the rollouts of a step cost.

    Args:
        shapes: P trees to grow.
        machine: the constants.
        layout: engines, tool threads, and whether paths wait for each other.
        tools: how long they take.
        deaths: how often engines die.
        seed: of latencies and deaths; a latency depends on it and on its place in its tree only.

    >>> one = Machine(round_seconds=0.5, row_seconds=0.5, prefill_seconds=0.25, token_seconds=0.0)
    >>> from algorithms.cluster.planning.work import Path, Turn
    >>> path = Path((Turn(sampled=3, result=4, calls=True), Turn(sampled=2, result=0, calls=False)))
    >>> roll_out([Shape(8, (path,))], one).seconds  # 8 + 4 tokens read, 3 + 2 drawn
    8.0
    """
    step = _Step(shapes, machine, layout, tools, deaths, seed)
    return step.run()


@dataclass
class _Tree:
    """A tree that grows.

    Args:
        number: in the step.
        shape: what it will be.
        engine: where its paths are drawn, because their prefix is known there.
        read: whether that engine knows the prompt.
        running: paths.
        quiet: called when no path runs.
    """

    number: int
    shape: Shape
    engine: int
    read: bool = False
    running: int = 0
    quiet: Callable[[], None] | None = None
    forks: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    waves: list[list[int]] = field(default_factory=list)
    latencies: list[NDArray[np.float64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Sorts its paths: those that begin in a fork of a running path, and those that begin when none runs."""
        paths = self.shape.paths
        for number, path in enumerate(paths):
            if path.parent >= 0 and paths[path.parent].wave == path.wave:
                self.forks.setdefault((path.parent, path.at), []).append(number)
            else:
                self.waves += [[] for _ in range(path.wave + 1 - len(self.waves))]
                self.waves[path.wave].append(number)


class _Step:
    """The rollouts of one step; see `roll_out`."""

    def __init__(
        self, shapes: Sequence[Shape], machine: Machine, layout: Layout, tools: Tools, deaths: Deaths, seed: int
    ) -> None:
        self.machine, self.layout, self.tools, self.deaths, self.seed = machine, layout, tools, deaths, seed
        self.events, self.spent = Events(), Spent()
        self.engines = [Engine(self.events, machine, self.spent) for _ in range(layout.engines)]
        self.trees = [_Tree(number, shape, number % layout.engines) for number, shape in enumerate(shapes)]
        self.live = 0
        """Trees and paths that have not ended."""
        self.members = 0
        """Those of them that others wait for in deterministic mode."""
        self.ready: list[Callable[[], None]] = []
        self.free_at = 0.0
        """When the controlling process has nothing left to do."""
        self.busy = 0.0
        self.threads = layout.threads
        self.queue: deque[Callable[[], None]] = deque()
        self.stranded: list[tuple[_Tree, Request]] = []
        self.fallen = self.retries = 0
        self.lost = 0.0

    def run(self) -> Rolled:
        """Grows all trees."""
        for tree in self.trees:
            self._launch(self._grow(tree))
        if self.deaths.per_hour:
            rng = seeds.generator(self.seed, "deaths")
            for number in range(len(self.engines)):
                self._doom(number, rng)
        self.events.run(lambda: not self.live)
        shapes = [tree.shape for tree in self.trees]
        return Rolled(
            seconds=self.events.now,
            sampled=sum(shape.sampled for shape in shapes),
            turns=len(shapes) + sum(len(path.turns) for shape in shapes for path in shape.paths),
            begun=sum(len(shape.paths) for shape in shapes),
            executed=sum(shape.executed for shape in shapes),
            spent=self.spent,
            controller_seconds=self.busy,
            deaths=self.fallen,
            retries=self.retries,
            lost=self.lost,
        )

    # --- trees and paths ------------------------------------------------------------------------------

    def _launch(self, life: Life) -> None:
        self.live += 1
        self.members += 1
        self.events.at(self.events.now, partial(self._resume, life))

    def _resume(self, life: Life) -> None:
        """Lets a tree or a path go on until it waits again, or ends."""
        wait = next(life, None)
        if wait is not None:
            wait(partial(self._resume, life))
        else:
            self.live -= 1
            self._leave()

    def _grow(self, tree: _Tree) -> Life:
        """Opens the episode and begins what begins at the prompt; then, whenever no path runs, what comes next."""
        yield partial(self._compute, self.machine.turn_seconds)
        for wave in tree.waves:
            yield self._tick
            yield partial(self._compute, self.machine.fork_seconds * len(wave))
            for number in wave:
                self._begin(tree, number)
            if tree.running:
                yield partial(self._until_quiet, tree)

    def _begin(self, tree: _Tree, number: int) -> None:
        tree.running += 1
        self._launch(self._travel(tree, number))

    def _until_quiet(self, tree: _Tree, goes_on: Callable[[], None]) -> None:
        self._leave()  # nobody waits for a tree that waits for its own paths

        def again() -> None:
            self.members += 1
            goes_on()

        tree.quiet = again

    def _travel(self, tree: _Tree, number: int) -> Life:
        """Follows a path: draw, act, read the result, draw a probe, fork."""
        shape, path = tree.shape, tree.shape.paths[number]
        context, unread = shape.inherited_length(path), 0
        if not tree.read and path.parent < 0:
            tree.read, unread = True, shape.prompt
        yield from self._fork(tree, number, 0)
        after_call = False
        for at, turn in enumerate(path.turns):
            parts = [turn.sampled]
            if after_call and shape.probe:
                parts = [min(shape.probe, turn.sampled), max(0, turn.sampled - shape.probe)]
            for part, tokens in enumerate(parts):
                if tokens:
                    yield self._tick
                    yield partial(self._draw, tree, tokens, unread, context)
                    context, unread = context + tokens, 0
                if after_call and not part:
                    yield self._tick
                    yield from self._fork(tree, number, at)
            if turn.sampled:
                yield self._tick
                yield partial(self._act, tree, number, at, turn.calls)
                yield self._tick
            context, unread, after_call = context + turn.result, turn.result, turn.calls
        tree.running -= 1
        if not tree.running and tree.quiet is not None:
            self.events.at(self.events.now, tree.quiet)
            tree.quiet = None

    def _fork(self, tree: _Tree, number: int, at: int) -> Life:
        """Begins the paths that fork off here."""
        if found := tree.forks.get((number, at), ()):
            yield partial(self._compute, self.machine.fork_seconds * len(found))
            for child in found:
                self._begin(tree, child)

    # --- the order of turns in deterministic mode -----------------------------------------------------

    def _tick(self, goes_on: Callable[[], None]) -> None:
        """Waits until all have come this far, in deterministic mode."""
        if self.layout.mode == "free":
            goes_on()
            return
        self.ready.append(goes_on)
        self._release()

    def _leave(self) -> None:
        self.members -= 1
        self.events.at(self.events.now, self._release)

    def _release(self) -> None:
        if self.ready and len(self.ready) >= self.members:
            ready, self.ready = self.ready, []
            for goes_on in ready:
                self.events.at(self.events.now, goes_on)

    # --- what takes time ------------------------------------------------------------------------------

    def _compute(self, seconds: float, goes_on: Callable[[], None]) -> None:
        """Uses the controlling process, which does one thing at a time."""
        self.free_at = max(self.free_at, self.events.now) + seconds
        self.busy += seconds
        self.events.at(self.free_at, goes_on)

    def _act(self, tree: _Tree, number: int, at: int, calls: bool, goes_on: Callable[[], None]) -> None:
        """Takes the environment's step, in one of the tool threads."""

        def end() -> None:
            self.threads += 1
            if self.queue:
                self.queue.popleft()()
            goes_on()

        def begin() -> None:
            self.threads -= 1
            latency = float(self._latencies(tree)[number][at]) if calls else 0.0
            self.events.at(self.events.now + latency, partial(self._compute, self.machine.turn_seconds, end))

        self.queue.append(begin)
        if self.threads:
            self.queue.popleft()()

    def _latencies(self, tree: _Tree) -> list[NDArray[np.float64]]:
        """Returns the latency of each turn of each path."""
        if not tree.latencies:
            rng, tools = seeds.generator(self.seed, "latency", tree.number), self.tools
            for path in tree.shape.paths:
                noise_D = rng.standard_normal(len(path.turns)) if tools.latency else np.zeros(len(path.turns))
                tree.latencies.append(tools.latency * np.exp(tools.spread * noise_D))
        return tree.latencies

    def _draw(self, tree: _Tree, tokens: int, prefill: int, context: int, goes_on: Callable[[], None]) -> None:
        self._send(tree, Request(tokens, prefill, context, goes_on, partial(self._lose, tree)))

    def _send(self, tree: _Tree, request: Request) -> None:
        """Sends a request to the engine that knows its prefix; if that is dead, to the one with the least to do."""
        if not self.engines[tree.engine].alive:
            alive = [number for number, engine in enumerate(self.engines) if engine.alive]
            if not alive:
                self.stranded.append((tree, request))
                return
            tree.engine = min(alive, key=lambda number: self.engines[number].load)
        self.engines[tree.engine].submit(request)

    # --- deaths ---------------------------------------------------------------------------------------

    def _doom(self, number: int, rng: np.random.Generator) -> None:
        """Draws when an engine dies next."""
        after = float(rng.exponential(3600.0 / self.deaths.per_hour))
        self.events.at(self.events.now + after, partial(self._die, number, rng))

    def _die(self, number: int, rng: np.random.Generator) -> None:
        self.fallen += 1
        self.engines[number].die()

        def back() -> None:
            self.engines[number].alive = True
            self._doom(number, rng)
            stranded, self.stranded = self.stranded, []
            for tree, request in stranded:
                self._send(tree, request)

        self.events.at(self.events.now + self.deaths.restart_seconds, back)

    def _lose(self, tree: _Tree, request: Request, drawn: float) -> None:
        """Sends a request again, when its loss is noticed; another engine must read the whole path first."""
        self.retries += 1
        self.lost += drawn
        again = Request(request.tokens, request.context, request.context, request.done, request.lost)
        self.events.at(self.events.now + self.deaths.notice_seconds, partial(self._send, tree, again))


def padded(shapes: Sequence[Shape], machine: Machine) -> tuple[int, int]:
    """Returns the tokens that a learner computes in plain rows and in packed ones, padding included.

    Args:
        shapes: trees; those whose paths all earned the same have no gradient and are not computed.
        machine: says which trees are packed, and how large a micro-batch is.
    """
    useful = [shape for shape in shapes if shape.teaches]
    packed = [shape.path_tokens >= machine.packs_from * shape.tokens for shape in useful]
    plain_I = [shape.length(path) for shape, it in zip(useful, packed, strict=True) if not it for path in shape.paths]
    packed_I = [shape.tokens for shape, it in zip(useful, packed, strict=True) if it]
    return _padded(plain_I, machine.micro_batch_tokens), _padded(packed_I, machine.micro_batch_tokens)


def _padded(length_I: Sequence[int], budget: int) -> int:
    """Returns the tokens of the micro-batches of rows, each row as long as the longest beside it."""
    return sum(max(length_I[row] for row in batch) * len(batch) for batch in batches(length_I, budget))


def dealt(shapes: Sequence[Shape], learners: int) -> list[list[Shape]]:
    """Returns the trees of each learner: the largest goes to the one with the fewest tokens so far.

    >>> [[tree.prompt for tree in own] for own in dealt([Shape(size, ()) for size in (5, 3, 3, 2)], 2)]
    [[5, 2], [3, 3]]
    """
    shares: list[list[Shape]] = [[] for _ in range(learners)]
    loads = [0] * learners
    for shape in sorted(shapes, key=lambda shape: -shape.tokens):
        least = loads.index(min(loads))
        shares[least].append(shape)
        loads[least] += shape.tokens
    return shares


def update_seconds(shapes: Sequence[Shape], machine: Machine, learners: int) -> float:
    """Returns what an update takes: as long as the learner with the most to do, and what all of them take together.

    Args:
        shapes: P trees.
        machine: the constants.
        learners: that share the update, whole trees each.
    """
    each = machine.token_seconds if machine.packed_seconds is None else machine.packed_seconds
    shares = [padded(own, machine) for own in dealt([shape for shape in shapes if shape.teaches], learners)]
    longest = max(machine.token_seconds * plain + each * packed for plain, packed in shares)
    return machine.update_seconds + longest + (machine.join_seconds if learners > 1 else 0.0)
