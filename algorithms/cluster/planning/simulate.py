"""Simulates the rollouts of one step: trees grow as `rollout.collect` grows them, on engines that share their rounds.

With several engines, each is a process that grows whole trees, as `cluster.collector` has them grown: when one ends, the next
begins, and those of an engine that dies are grown again by the others.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ... import seeds
from ..growing import OVERBOOKED
from .engine import Engine, Events, Request, Spent
from .machine import Deaths, Layout, Machine, Tools
from .process import Process, Turns
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
        controller_seconds: in which controlling processes were busy, added up.
        deaths: engines that died.
        retries: trees that were grown again because of that; requests that were sent again, if one process grows all.
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


@dataclass(eq=False)
class _Tree:
    """A tree that grows.

    Args:
        number: in the step.
        shape: what it will be.
        process: where it grows.
        turns: the clock of its paths.
        engine: where its paths are drawn, because their prefix is known there.
        read: whether that engine knows the prompt.
        drawn: tokens so far.
        lives: the tree itself and those of its paths that have not ended.
        running: paths.
        quiet: called when no path runs.
        is_lost: whether its process has died.
    """

    number: int
    shape: Shape
    process: Process
    turns: Turns
    engine: int
    read: bool = False
    drawn: int = 0
    lives: int = 0
    running: int = 0
    quiet: Callable[[], None] | None = None
    is_lost: bool = False
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
        self.shapes = shapes
        self.machine, self.layout, self.tools, self.deaths, self.seed = machine, layout, tools, deaths, seed
        self.events, self.spent = Events(), Spent()
        self.engines = [Engine(self.events, machine, self.spent) for _ in range(layout.engines)]
        self.begun: list[Process] = []
        """All processes, those that have died included."""
        self.processes = [self._process() for _ in range(max(1, layout.processes))]
        self.open = len(shapes)
        """Trees that have not ended."""
        self.waiting: deque[int] = deque()
        self.growing: dict[_Tree, None] = {}
        self.stranded: list[tuple[_Tree, Request]] = []
        self.fallen = self.retries = 0
        self.lost = 0.0

    def run(self) -> Rolled:
        """Grows all trees."""
        if self.layout.processes:
            self.waiting.extend(range(len(self.shapes)))
            self._deal()
        else:
            turns = self._turns()
            for number in range(len(self.shapes)):
                self._start(number, 0, turns, number % len(self.engines))
        if self.deaths.per_hour:
            rng = seeds.generator(self.seed, "deaths")
            for number in range(len(self.engines)):
                self._doom(number, rng)
        self.events.run(lambda: not self.open)
        shapes = self.shapes
        return Rolled(
            seconds=self.events.now,
            sampled=sum(shape.sampled for shape in shapes),
            turns=len(shapes) + sum(len(path.turns) for shape in shapes for path in shape.paths),
            begun=sum(len(shape.paths) for shape in shapes),
            executed=sum(shape.executed for shape in shapes),
            spent=self.spent,
            controller_seconds=sum(process.busy for process in self.begun),
            deaths=self.fallen,
            retries=self.retries,
            lost=self.lost,
        )

    def _process(self) -> Process:
        self.begun.append(Process(self.events, self.layout.threads))
        return self.begun[-1]

    def _turns(self) -> Turns:
        return Turns(self.events, wait=self.layout.mode == "deterministic")

    def _deal(self) -> None:
        """Begins trees where there is room, though in no process more than its share of what is open."""
        if not self.waiting:
            return
        own = self.layout.has_own_engines
        alive = [number for number in range(len(self.processes)) if not own or self.engines[number].alive]
        while self.waiting and alive:
            first = self.waiting[0]
            least = min(alive, key=lambda number: self.processes[number].under_way)
            room = OVERBOOKED * self.machine.rows // max(1, len(self.shapes[first].paths))
            if self.processes[least].under_way >= max(1, min(room, -(-self.open // len(alive)))):
                return
            self._start(self.waiting.popleft(), least, self._turns(), least if own else first % len(self.engines))

    # --- trees and paths ------------------------------------------------------------------------------

    def _start(self, number: int, process: int, turns: Turns, engine: int) -> None:
        tree = _Tree(number, self.shapes[number], self.processes[process], turns, engine)
        tree.process.under_way += 1
        self.growing[tree] = None
        self._launch(tree, self._grow(tree))

    def _launch(self, tree: _Tree, life: Life) -> None:
        tree.lives += 1
        tree.turns.join()
        self.events.at(self.events.now, partial(self._resume, tree, life))

    def _resume(self, tree: _Tree, life: Life) -> None:
        """Lets a tree or a path go on until it waits again, or ends."""
        if tree.is_lost:
            return
        wait = next(life, None)
        if wait is not None:
            wait(partial(self._resume, tree, life))
            return
        tree.lives -= 1
        tree.turns.leave()
        if not tree.lives:
            self._end(tree)

    def _end(self, tree: _Tree) -> None:
        del self.growing[tree]
        tree.process.under_way -= 1
        self.open -= 1
        self._deal()

    def _grow(self, tree: _Tree) -> Life:
        """Opens the episode and begins what begins at the prompt; then, whenever no path runs, what comes next."""
        compute = tree.process.compute
        yield partial(compute, self.machine.turn_seconds)
        for wave in tree.waves:
            yield tree.turns.tick
            yield partial(compute, self.machine.fork_seconds * len(wave))
            for number in wave:
                self._begin(tree, number)
            if tree.running:
                yield partial(self._until_quiet, tree)

    def _begin(self, tree: _Tree, number: int) -> None:
        tree.running += 1
        self._launch(tree, self._travel(tree, number))

    def _until_quiet(self, tree: _Tree, goes_on: Callable[[], None]) -> None:
        tree.turns.leave()  # nobody waits for a tree that waits for its own paths

        def again() -> None:
            tree.turns.join()
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
                    yield tree.turns.tick
                    yield partial(self._draw, tree, tokens, unread, context)
                    context, unread = context + tokens, 0
                if after_call and not part:
                    yield tree.turns.tick
                    yield from self._fork(tree, number, at)
            if turn.sampled:
                yield tree.turns.tick
                yield partial(self._act, tree, number, at, turn.calls)
                yield tree.turns.tick
            context, unread, after_call = context + turn.result, turn.result, turn.calls
        tree.running -= 1
        if not tree.running and tree.quiet is not None:
            self.events.at(self.events.now, tree.quiet)
            tree.quiet = None

    def _fork(self, tree: _Tree, number: int, at: int) -> Life:
        """Begins the paths that fork off here."""
        if found := tree.forks.get((number, at), ()):
            yield partial(tree.process.compute, self.machine.fork_seconds * len(found))
            for child in found:
                self._begin(tree, child)

    # --- what takes time ------------------------------------------------------------------------------

    def _act(self, tree: _Tree, number: int, at: int, calls: bool, goes_on: Callable[[], None]) -> None:
        """Takes the environment's step, in one of the tool threads."""
        latency = float(self._latencies(tree)[number][at]) if calls else 0.0
        tree.process.act(latency, self.machine.turn_seconds, goes_on)

    def _latencies(self, tree: _Tree) -> list[NDArray[np.float64]]:
        """Returns the latency of each turn of each path."""
        if not tree.latencies:
            rng, tools = seeds.generator(self.seed, "latency", tree.number), self.tools
            for path in tree.shape.paths:
                noise_D = rng.standard_normal(len(path.turns)) if tools.latency else np.zeros(len(path.turns))
                tree.latencies.append(tools.latency * np.exp(tools.spread * noise_D))
        return tree.latencies

    def _draw(self, tree: _Tree, tokens: int, prefill: int, context: int, goes_on: Callable[[], None]) -> None:
        def done() -> None:
            tree.drawn += tokens
            goes_on()

        self._send(tree, Request(tokens, prefill, context, done, partial(self._lose, tree)))

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
        if self.layout.has_own_engines:
            self._abandon(number)
        self.engines[number].die()

        def back() -> None:
            self.engines[number].alive = True
            self._doom(number, rng)
            stranded, self.stranded = self.stranded, []
            for tree, request in stranded:
                self._send(tree, request)
            self._deal()

        self.events.at(self.events.now + self.deaths.restart_seconds, back)

    def _abandon(self, number: int) -> None:
        """Loses a process and the trees that grow in it, which are grown again when that is noticed."""
        lost = [tree for tree in self.growing if tree.process is self.processes[number]]
        self.processes[number] = self._process()
        for tree in lost:
            tree.is_lost = True
            del self.growing[tree]
            self.lost += tree.drawn
            self.retries += 1

        def noticed() -> None:
            self.waiting.extend(tree.number for tree in lost)
            self._deal()

        self.events.at(self.events.now + self.deaths.notice_seconds, noticed)

    def _lose(self, tree: _Tree, request: Request, drawn: float) -> None:
        """Sends a request again, when its loss is noticed; another engine must read the whole path first."""
        self.lost += drawn
        if tree.is_lost:
            return
        self.retries += 1
        again = Request(request.tokens, request.context, request.context, request.done, request.lost)
        self.events.at(self.events.now + self.deaths.notice_seconds, partial(self._send, tree, again))
