"""A counting tool, scripted players and trees by hand: everything a rollout needs, under exact control."""

import asyncio
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from algorithms.branching import BranchPoint, Grow, NoBranching, roots_then_backfill
from algorithms.policies.scripted import Script, ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout import collect
from algorithms.rollout.run import Limits, Start
from algorithms.tree import NO_PARENT, Node, RolloutTree, Status
from arpo_envs.core import Outcome, Score, ToolEnv
from arpo_envs.errors import CloneError
from arpo_envs.forking import ForkLevel
from arpo_envs.tasks import Task
from arpo_envs.tools import Session, ToolResult, ToolSpec

COUNT = ToolSpec("count", "Counts.", {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]})

History = tuple[str, ...]
Hook = Callable[[History], ToolResult | None]


class One:
    """One question per letter; a drawn one depends on the seed."""

    name = "letters"

    def draw(self, rng: np.random.Generator) -> Task:
        return self.get("abcdefgh"[int(rng.integers(8))])

    def get(self, task_id: str) -> Task:
        return Task(task_id, f"Question {task_id}?", ("1",))


def numeric(task: Task, outcome: Outcome) -> Score:
    """Pays what the answer says; -1 without one."""
    if outcome.answer is None:
        return Score(-1.0, 0.0)
    try:
        value = float(outcome.answer)
    except ValueError:
        value = 0.0
    return Score(value, float(value == 1.0))


@dataclass
class CountTool:
    """Counts the calls of a session; keeps one journal of everything that really ran.

    Args:
        hook: called with the session's history after each call; may answer, sleep or raise.
        clone_hook: called with the history for each child; True makes that child fail.
    """

    hook: Hook = lambda history: None
    clone_hook: Callable[[History], bool] = lambda history: False
    fork_level: ForkLevel = ForkLevel.EXACT
    specs: tuple[ToolSpec, ...] = (COUNT,)
    journal: list[History] = field(default_factory=list)
    replays: list[History] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def open(self, task: Task, rng: np.random.Generator) -> Session:
        return CountSession(self, (), rng)


class CountSession:
    """One episode's count."""

    def __init__(self, tool: CountTool, history: History, rng: np.random.Generator, replayed: int = 0) -> None:
        self.tool, self.history, self.rng, self.replayed_calls, self.open = tool, history, rng, replayed, True
        with tool.lock:
            tool.opened += 1

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        assert self.open, "used after close()"
        self.history = (*self.history, str(arguments["text"]))
        with self.tool.lock:
            self.tool.journal.append(self.history)
        answer = self.tool.hook(self.history)
        return answer or ToolResult(f"{len(self.history)} of {','.join(self.history)} die {self.rng.integers(1000)}")

    def clone(self, n: int = 1) -> list[Session | CloneError]:
        return [self._clone() for _ in range(n)]

    def _clone(self) -> "Session | CloneError":
        if not self.open:
            return CloneError("cloned after close()")
        if self.tool.clone_hook(self.history):
            return CloneError("this child could not be made")
        rng = np.random.default_rng(0)
        rng.bit_generator.state = self.rng.bit_generator.state
        replayed = 0
        if self.tool.fork_level is ForkLevel.REPLAY:
            replayed = len(self.history)
            with self.tool.lock:
                self.tool.replays += [self.history[: i + 1] for i in range(replayed)]
        return CountSession(self.tool, self.history, rng, replayed)

    def reseed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def close(self) -> None:
        with self.tool.lock:
            self.tool.closed += self.open
        self.open = False


class CountEnv(ToolEnv):
    """Counting, and a number for an answer."""

    def __init__(self, tool: CountTool | None = None, **options: Any) -> None:
        self.count = tool or CountTool()
        options = {"max_turns": 12, "max_tool_calls": 10} | options
        super().__init__(tasks=One(), tools=(self.count,), reward=numeric, **options)

    shared = ToolEnv.shared | {"count"}


def results(before: str) -> int:
    """Returns how many tool results a context holds."""
    return before.count("</result>")


def calls_then_answer(calls: int, answer: str = "1") -> Script:
    """Calls the tool so often, then answers; which call it was is written in it."""

    def script(before: str, seed: int) -> str:
        done = results(before)
        return f"<count>c{done}s{seed % 97}</count>" if done < calls else f"<answer>{answer}</answer>"

    return script


def varied(before: str, seed: int) -> str:
    """Calls the tool or answers by the toss of its seed."""
    if seed % 3 == 0 or results(before) >= 4:
        return f"<answer>{seed % 5 / 4}</answer>"
    return f"<think>{'hm ' * (seed % 4)}</think><count>{seed % 1000}</count>"


@dataclass(frozen=True)
class Coin:
    """Forks with a probability; the test's own branching strategy."""

    roots: int | None = 1
    probability: float = 1.0
    siblings: int = 1
    probe: int = 0
    keeps: str = "none"
    forks: bool = True
    seen: list[BranchPoint] = field(default_factory=list, compare=False)

    def plan(self, tree: RolloutTree, left: int, rng: np.random.Generator) -> Sequence[Grow]:
        return roots_then_backfill(tree, left, self.roots)

    def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
        self.seen.append(point)
        return self.siblings if rng.random() < self.probability else 0


@dataclass(frozen=True)
class Plan:
    """What `collect` needs of an algorithm."""

    branching: Any = NoBranching()
    rollouts: int = 4


def grow(
    tool: CountTool | None = None,
    plan: Plan = Plan(),
    script: Script | ScriptedPolicy = calls_then_answer(1),
    *,
    prompts: int = 1,
    seed: int = 3,
    step: int = 0,
    env: Callable[[], Any] | None = None,
    renderer: Any = None,
    debug: bool | None = None,
    **limits: Any,
) -> list[RolloutTree]:
    """Runs `collect` with toys."""
    tool = tool or CountTool()
    policy: Any = script if hasattr(script, "generate") else ScriptedPolicy(script)
    starts = [Start(seed=i) for i in range(prompts)]
    growing = collect(
        env or (lambda: CountEnv(tool)),
        starts,
        policy,
        renderer or ScriptedRenderer(),
        plan,
        seed=seed,
        step=step,
        limits=Limits(**limits),
    )
    return asyncio.run(growing, debug=debug)


def statuses(tree: RolloutTree) -> list[Status | None]:
    """Returns how the leaves ended."""
    return [tree.nodes[leaf].status for leaf in tree.leaves()]


def path_text(tree: RolloutTree, leaf: int) -> str:
    """Returns a trajectory as characters (of `ScriptedRenderer`)."""
    return "".join(map(chr, tree.tokens(leaf)))


def node(key: tuple[int, ...], parent: int, tokens: Sequence[int] = (), **fields: Any) -> Node:
    """Returns a node with blanks filled in; keys of even length are actions of the policy."""
    kind = "prompt" if not key else fields.pop("kind", "action")
    drawn = kind == "action"
    blank = {
        "parent_at": fields.pop("parent_at", 0),
        "kind": kind,
        "tokens": tuple(tokens),
        "sampled": (drawn,) * len(tokens),
        "logprobs": tuple(-0.25 * (t % 7) if drawn else 0.0 for t in tokens),
        "entropies": tuple(0.5 if drawn else 0.0 for _ in tokens),
    }
    return Node(key=key, parent=parent, **(blank | fields))


def build(*nodes: Node, freeze: bool = True, meta: Mapping[str, Any] = MappingProxyType({})) -> RolloutTree:
    """Returns a tree of nodes whose `parent_at` is the parent's end where it was left out."""
    tree = RolloutTree("toy", dict(meta))
    for new in nodes:
        if new.parent != NO_PARENT and new.parent_at == 0:
            object.__setattr__(new, "parent_at", len(tree.nodes[new.parent].tokens))
        tree.add(new)
    return tree.freeze() if freeze else tree


def shuffled(tree: RolloutTree, rng: random.Random) -> RolloutTree:
    """The same nodes in another order of arrival, parents before children."""
    other, place = RolloutTree(tree.task, dict(tree.meta)), {NO_PARENT: NO_PARENT}
    waiting = list(range(len(tree.nodes)))
    while waiting:
        ready = [i for i in waiting if tree.nodes[i].parent in place]
        chosen = rng.choice(ready)
        waiting.remove(chosen)
        place[chosen] = other.add(replace(tree.nodes[chosen], parent=place[tree.nodes[chosen].parent]))
    return other
