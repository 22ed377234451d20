"""One rollout tree while it grows: opens the episode, plants what the strategy plans, closes.

The paths themselves travel in `travel.py`.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym

from arpo_envs import CloneError, ConfigError, ForkLevel, NotForkable, Snapshot, clone_many, fork_level, snapshot

from .. import seeds
from ..branching import BranchingStrategy, Grow
from ..policies import Policy
from ..rendering import Renderer, check_dialect
from ..tree import NO_PARENT, Node, RolloutTree, Status
from .clock import Clock
from .failures import Failures, reason
from .limits import Limits, MakeEnv, Start, TextEnv, split_evenly
from .prompts import attribute, prompt, too_long
from .threads import ToolThreads
from .travel import Origin, Path, travel


@dataclass(frozen=True)
class Run:
    """What all trees and paths of one `collect` share."""

    make_env: MakeEnv
    policy: Policy
    renderer: Renderer
    branching: BranchingStrategy
    rollouts: int
    seed: int
    step: int
    limits: Limits
    clock: Clock
    threads: ToolThreads
    failures: Failures
    group: asyncio.TaskGroup


class Growth:
    """One tree while it grows."""

    def __init__(self, run: Run, index: int, start: Start) -> None:
        self.run, self.index, self.start = run, index, start
        self.tree = RolloutTree(meta={"seed": start.seed, "step": run.step})
        self.failure: Exception | None = None
        """The first one of a path; the others went on."""
        self.mistake: ConfigError | None = None
        """The first one that the user must mend in the strategy."""
        self.unforkable: NotForkable | None = None
        """The first one for which a fork can never be made."""
        self._allotted = 0
        self._running = 0
        self._quiet = asyncio.Event()
        self._ordinals: dict[int, int] = {}
        self._parked: dict[int, Snapshot] = {}
        self._first: TextEnv | None = None
        self._live: set[TextEnv] = set()

    async def grow(self) -> None:
        """Grows the tree to its budget, or until the strategy plans no more."""
        try:
            if not await self._open():
                return
            plans = 0
            while self._allotted < self.run.rollouts:
                await self.run.clock.tick((self.index,))
                plan = self._planned(plans)
                if not plan:
                    break
                for grow in plan:
                    await self._plant(grow, _origin(grow, first=plans == 0))
                plans += 1
                if self._running:
                    self.run.clock.leave()  # the last path joins again on our behalf
                    await self._quiet.wait()
        finally:
            self.run.clock.leave()
            for parked in self._parked.values():
                await self.discard(parked)
            if self._first is not None:
                await self.discard(self._first)
            self.tree = self.tree.freeze()

    # --- what fails ---------------------------------------------------------------------------------------

    def failed(self, status: Status, error: Exception, count: int = 1) -> None:
        """Takes note of why a path, or several of them, failed."""
        self.run.failures.note(status, error, count)
        self.failure = self.failure or error
        if status is Status.BRANCHING_FAULT and isinstance(error, ConfigError):
            self.mistake = self.mistake or error

    def _give_up(self, status: Status, error: Exception) -> None:
        """Makes failed leaves of all paths that were still to come."""
        count = self.run.rollouts - self._allotted
        self.failed(status, error, count)
        origin: Origin = "backfill" if self.tree.roots() else "root"
        for _ in range(count):
            self._allotted += 1
            self.add("action", self.next_key(0), 0, len(self.tree.nodes[0].tokens), (), origin=origin, status=status,
                     fault=reason(error))  # fmt: skip

    # --- the beginning of an episode ----------------------------------------------------------------

    async def _open(self) -> bool:
        """Starts the episode and adds the prompt; if that fails, all leaves are failed ones, and False is returned."""
        try:
            env, text, info = await self.call(self._start_episode)
        except Exception as error:  # noqa: BLE001  # an environment may fail in any way; the other prompts go on
            self.add("prompt", (), NO_PARENT, 0, ())
            self._give_up(Status.TOOL_TIMEOUT if isinstance(error, TimeoutError) else Status.TOOL_FAULT, error)
            return False
        self._first = env
        self._live.add(env)
        self.tree.task = str(info.get("task", ""))
        tokens: tuple[int, ...] = ()
        fault: tuple[Status, Exception] | None = None
        self._check_fit(env)
        try:
            tokens = prompt(env, text, self.run.renderer)
        except Exception as error:  # noqa: BLE001  # of one text; others may be rendered
            fault = Status.RENDERER_FAULT, error
        else:
            long = too_long(len(tokens), self.run.limits.answer_reserve, self.run.policy.context_length)
            if long is not None:
                tokens, fault = (), (Status.PROMPT_TOO_LONG, long)
        self.add("prompt", (), NO_PARENT, 0, tokens, text=text)
        if fault is not None:
            self._give_up(*fault)
        return fault is None

    def _check_fit(self, env: TextEnv) -> None:
        """Refuses an environment that the renderer or the strategy can do nothing with.

        Raises:
            ConfigError: it speaks another dialect, or cannot be cloned for a strategy that forks.
        """
        dialect = attribute(env, "dialect")
        if dialect is not None:
            check_dialect(self.run.renderer, dialect)
        if self.run.branching.forks and fork_level(env) is ForkLevel.NONE:
            raise ConfigError(f"{env} cannot be cloned, but {self.run.branching} forks. Use an algorithm without forks.")

    def _start_episode(self) -> tuple[TextEnv, str, dict[str, Any]]:
        env = self.run.make_env()
        options = dict(self.start.options) if self.start.options is not None else None
        try:
            text, info = env.reset(seed=self.start.seed, options=options)
            return env, str(text), dict(info)
        except BaseException:
            env.close()
            raise

    # --- planting -------------------------------------------------------------------------------------

    def _planned(self, plans: int) -> list[Grow]:
        """Returns where to grow next; nothing, and failed leaves in the tree, if the strategy fails."""
        rng = seeds.generator(self.run.seed, self.run.step, self.index, "plan", plans)
        try:
            left = self.run.rollouts - self._allotted
            plan = [grow for grow in self.run.branching.plan(self.tree, left, rng) if grow.count > 0]
            for grow in plan:
                self._check(grow)
        except Exception as error:  # noqa: BLE001  # a strategy may fail in any way; the other trees go on
            self._give_up(Status.BRANCHING_FAULT, error)
            return []
        return plan

    async def _plant(self, grow: Grow, origin: Origin) -> None:
        """Starts the paths of one `Grow`."""
        node = self.tree.nodes[grow.node]
        base = self._action_start(grow.node)
        keys = self.allot(grow.node, min(grow.count, self.run.rollouts - self._allotted))
        envs = await self._environments(base, keys)
        context = [t for i, stop in self.tree.path(grow.node)[:-1] for t in self.tree.nodes[i].tokens[:stop]]
        context += node.tokens[: grow.at]
        prefix = tuple(context[sum(stop for _, stop in self.tree.path(base)) :])
        shares = self._shares(len(keys)) if origin == "root" else [0] * len(keys)
        for key, env, quota in zip(keys, envs, shares, strict=True):
            self.launch(key, grow.node, grow.at, origin, quota, env, list(context), prefix)

    def _check(self, grow: Grow) -> None:
        """Refuses a place where nothing can grow.

        Raises:
            ConfigError: there is no such place.
        """
        if not 0 <= grow.node < len(self.tree.nodes):
            raise ConfigError(f"{grow}: the tree has {len(self.tree.nodes)} nodes.")
        node = self.tree.nodes[grow.node]
        if grow.node != 0 and self.run.branching.keeps != "action":
            raise ConfigError(f"{grow}: to grow inside a tree, a strategy must declare keeps='action'.")
        inside = node.kind == "action" and 0 < grow.at < len(node.tokens)
        if not inside and (node.kind == "action" or grow.at != len(node.tokens)):
            raise ConfigError(f"{grow}: grow after the whole prompt or observation, or strictly inside an action.")

    def _shares(self, roots: int) -> list[int]:
        """Returns the forks that belong to each root: its part of what is left of M."""
        return split_evenly(self.run.rollouts - self._allotted, roots)

    def _action_start(self, index: int) -> int:
        """Returns the prompt or observation after which the action around `index` began."""
        while self.tree.nodes[index].kind == "action":
            index = self.tree.nodes[index].parent
        return index

    async def _environments(self, base: int, keys: Sequence[tuple[int, ...]]) -> "list[TextEnv | CloneError]":
        """Returns one environment per key, in the state after node `base`."""
        assert self._first is not None
        if base == 0 and fork_level(self._first) is ForkLevel.NONE:
            return list(await asyncio.gather(*(self._restarted() for _ in keys)))
        source = self._first if base == 0 else self._parked.get(base)
        if source is None:
            return [CloneError("No snapshot could be taken at this place.")] * len(keys)
        return await self.clones(source, keys)

    async def _restarted(self) -> "TextEnv | CloneError":
        """Returns a fresh environment at the beginning of this episode; a failure is a value."""
        try:
            env: TextEnv = (await self.call(self._start_episode))[0]
        except Exception as error:  # noqa: BLE001  # as in `_open`; its leaf will say so
            return CloneError(f"The episode could not be started again: {error!r}")
        self._live.add(env)
        return env

    # --- what paths need --------------------------------------------------------------------------------

    def left(self, quota: int) -> int:
        """Returns how many siblings a path with this share of the budget may still add."""
        left = self.run.rollouts - self._allotted
        return min(left, quota) if self.run.limits.budget == "per_root" else left

    def allot(self, parent: int, count: int) -> list[tuple[int, ...]]:
        """Takes `count` paths from the budget and returns their keys, children of `parent`."""
        self._allotted += count
        self._running += count
        self._quiet.clear()
        return [self.next_key(parent) for _ in range(count)]

    def next_key(self, parent: int) -> tuple[int, ...]:
        """Returns the next child's key; child 0 of an action is the observation that follows it."""
        node = self.tree.nodes[parent]
        ordinal = self._ordinals.get(parent, 1 if node.kind == "action" else 0)
        self._ordinals[parent] = ordinal + 1
        return (*node.key, ordinal)

    async def clones(self, source: TextEnv | Snapshot, keys: Sequence[tuple[int, ...]]) -> "list[TextEnv | CloneError]":
        """Returns one reseeded clone per key; a failure is a value."""
        wanted = [self.seed(key, "env") for key in keys]
        try:
            if isinstance(source, Snapshot):
                envs: list[TextEnv | CloneError] = await self.call(lambda: source.spawn_many(wanted))
            else:
                envs = await self.call(lambda: clone_many(source, wanted))
        except Exception as error:  # noqa: BLE001  # a tool may fail to clone in any way; the other paths go on
            self._note_unforkable(error)
            return [CloneError(f"Cloning failed: {error!r}")] * len(keys)
        self._live.update(env for env in envs if not isinstance(env, CloneError))
        return envs

    def launch(
        self,
        key: tuple[int, ...],
        parent: int,
        parent_at: int,
        origin: Origin,
        quota: int,
        env: TextEnv | CloneError,
        context: list[int],
        prefix: tuple[int, ...] = (),
        consecutive: int = 0,
    ) -> None:
        """Starts an allotted path; one whose environment could not be made becomes a failed leaf."""
        self.run.clock.join()
        if isinstance(env, CloneError):
            self.run.group.create_task(self._stillborn(key, parent, parent_at, origin, env))
            return
        path = Path(key, parent, parent_at, origin, quota, env, context, prefix, False, replayed_calls(env), consecutive)
        self.run.group.create_task(travel(self, path))

    async def _stillborn(self, key: tuple[int, ...], parent: int, parent_at: int, origin: Origin, error: CloneError) -> None:
        """Adds the leaf of a path without an environment, when it is its turn."""
        await self.run.clock.tick((self.index, *key))
        self.failed(Status.CLONE_FAILED, error)
        self.add("action", key, parent, parent_at, (), origin=origin, status=Status.CLONE_FAILED, fault=reason(error))
        self.landed()

    def landed(self) -> None:
        """Says that a path ended."""
        self._running -= 1
        if self._running == 0:
            self.run.clock.join()  # for the tree, before the clock could run on without it
            self._quiet.set()
        self.run.clock.leave()

    def add(
        self,
        kind: Literal["prompt", "action", "observation"],
        key: tuple[int, ...],
        parent: int,
        parent_at: int,
        tokens: Sequence[int],
        **fields: Any,
    ) -> int:
        """Appends a node; what is not given is blank."""
        zeros = (0.0,) * len(tokens)
        blank: dict[str, Any] = {"sampled": (False,) * len(tokens), "logprobs": zeros, "entropies": zeros}
        return self.tree.add(Node(key, parent, parent_at, kind, tuple(tokens), **(blank | fields)))

    async def park(self, env: TextEnv, node: int) -> int:
        """Keeps a snapshot at the start of an action, until the tree closes; returns the tool calls it took again."""
        try:
            parked: Snapshot = await self.call(snapshot, env)
        except Exception as error:  # noqa: BLE001  # the path itself can go on; nothing will grow here
            self._note_unforkable(error)
            self.run.failures.note("no snapshot", error)
            return 0
        self._parked[node] = parked
        return parked.replayed_calls

    def _note_unforkable(self, error: Exception) -> None:
        """Remembers that something can never be copied: if no other fork works either, the user must mend it."""
        if isinstance(error, NotForkable):
            self.unforkable = self.unforkable or error

    async def discard(self, env: TextEnv | Snapshot) -> None:
        """Closes an environment that is needed no more."""
        try:
            await self.call(env.close)
        except Exception as error:  # noqa: BLE001  # the episode is over either way
            self.run.failures.note("not closed", error)
        if not isinstance(env, Snapshot):
            self._live.discard(env)

    def close_leftovers(self) -> None:
        """Closes what a cancelled tree could not."""
        close_late(self.run.failures, [*self._live, *self._parked.values()])

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs something that may block, in a thread and within the tool timeout."""
        return await self.run.threads.run(self.run.limits.tool_timeout, function, *arguments)

    def seed(self, key: tuple[int, ...], purpose: str) -> int:
        """Returns the seed of a node for one purpose."""
        return seeds.derive(self.run.seed, self.run.step, self.index, key, purpose)


def _origin(grow: Grow, *, first: bool) -> Origin:
    """Returns how the paths of a plan come to be."""
    if grow.node != 0:
        return "branch"
    return "root" if first or grow.fresh else "backfill"


def replayed_calls(env: TextEnv) -> int:
    """Returns the tool calls that were run again to make an environment."""
    return int(getattr(env.unwrapped, "replayed_calls", 0))


def close_late(failures: Failures, result: Any) -> None:
    """Closes the environments in a result that nobody waits for any more."""
    for item in result if isinstance(result, list | tuple) else [result]:
        if isinstance(item, gym.Env | Snapshot):
            try:
                item.close()
            except Exception as error:  # noqa: BLE001  # it is nobody's any more
                failures.note("not closed", error)
