"""One path on its way down a tree: act, step, observe; probe, decide and fork after each tool result."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from arpo_envs import CloneError, NotForkable, members

from ..branching.strategy import BranchPoint, weighed
from ..policies import Generation, Sampling
from ..tree import Decision, Origin, RolloutTree, Status, repeated
from . import door
from .failures import reason
from .growth import Growth
from .run import Run, TextEnv, split_evenly


class _Ended(Exception):
    """Ends a trajectory with a status; carries the tokens of the action under way."""

    def __init__(self, status: Status, fault: str = "", action: Generation | None = None, **fields: Any) -> None:
        super().__init__(status)
        self.status, self.fault, self.action, self.fields = status, fault, action, fields


@dataclass
class Trajectory:
    """A path on its way down.

    Args:
        growth: the tree it belongs to.
        key: of the node it will add next.
        parent: index of the node it grows from; the first `parent_at` tokens of that node are inherited.
        origin: how it came to be; "" once its first node is added.
        quota: forks it may still make, if each root has its own share of the budget.
        context: all token ids so far.
        prefix: tokens of the action under way that it inherited (a fork inside an action).
        consecutive: tool results in a row, up to the last one, at which it forked or was forked off.
    """

    growth: Growth
    key: tuple[int, ...]
    parent: int
    parent_at: int
    origin: Origin
    quota: int
    context: list[int]
    prefix: tuple[int, ...] = ()
    consecutive: int = 0
    env: TextEnv = field(init=False)
    """Its own live environment, once it is launched."""
    replayed: int = field(init=False, default=0)
    """Tool calls that were run again for a snapshot, not yet written to a node."""
    counted: int = field(init=False, default=0)
    """Tool calls that were run again to bring `env` into its state, and are written to a node."""
    after_result: bool = field(init=False, default=False)
    """Whether the next action is the first one after a tool result, where forks are decided."""

    @property
    def run(self) -> Run:
        """What all trajectories share."""
        return self.growth.run

    @property
    def tree(self) -> RolloutTree:
        """The tree it adds its nodes to."""
        return self.growth.tree

    @property
    def room(self) -> int:
        """How many tokens still fit into the policy's context."""
        return self.run.policy.context_length - len(self.context)

    def launch(self, env: TextEnv | CloneError) -> None:
        """Starts it in an environment of its own; if that could not be made, adds a failed leaf instead."""
        if isinstance(env, CloneError):
            self.run.launch(lambda: self._stillborn(env))
        else:
            self.env = env
            self.run.launch(self._travel)

    async def _stillborn(self, error: CloneError) -> None:
        await self._tick()
        self.growth.note(Status.CLONE_FAILED, error)
        self.growth.add_failed(self.key, self.parent, self.parent_at, self.origin, Status.CLONE_FAILED, error)
        self.growth.landed()

    async def _travel(self) -> None:
        """Follows the path to its end; whatever fails on the way becomes the status of its leaf."""
        try:
            while await self._turn():
                pass
        except _Ended as end:
            await self._tick()
            text = self._readable(end.action)
            self._record(end.action, status=end.status, fault=end.fault, text=text, **end.fields)
        finally:
            await self.growth.environments.discard(self.env)
            self.growth.landed()

    async def _turn(self) -> bool:
        """Acts once and appends the result; returns whether the episode goes on."""
        action, text, call = await self.act()
        with self._blame(Status.TOOL_FAULT, action):
            state = door.writable_value(members.ANCHOR.of(self.env.unwrapped)())
        await self._tick()
        said = await self.step(action, call)
        await self._tick()
        ran = {"tool": said.tool, "tool_status": said.status}
        fields: dict[str, Any] = {"text": text, "reward": said.reward, "anchor": state, **ran}
        if said.terminated or said.truncated:
            status = Status.ANSWERED if said.terminated else Status.TRUNCATED
            with self._blame(Status.TOOL_FAULT, action):
                fields["measures"] = self._measures()
            self._record(action, status=status, success=said.success, **fields)
            return False
        if said.status == door.MISTAKE and 0 < self.run.limits.idle_turns <= 1 + _idle_turns(self.tree, self.parent):
            self._record(action, status=Status.STALLED, **fields | self._given_up(action, said.reward))
            return False
        node = self._record(action, **fields)
        await self.observe(node, said.observation, after_result=bool(said.tool))
        return True

    # --- act ------------------------------------------------------------------------------------------------

    async def act(self) -> tuple[Generation, str, str]:
        """Draws one action: probe, decide, continue; the probe and its continuation are one action.

        Returns:
            The action, its text, and that text in the environment's dialect.
        """
        limit = min(self.run.limits.action_tokens - len(self.prefix), self.room)
        if limit < 1:
            raise self._full()
        action: Generation | None = None
        if self.after_result:
            self.after_result = False
            if probe := self.run.branching.probe:
                action = await self.generate(None, min(probe, limit))
            await self._tick()
            await self.decide(action)
        if action is None or (action.finish == "length" and len(action.tokens) < limit):
            action = await self.generate(action, limit)
        while True:
            text, call = self._read(action)
            if len(action.tokens) >= limit or not self._goes_on(action, text, call):
                return action, text, call
            longer = await self.generate(action, limit)
            if longer.tokens == action.tokens:
                return action, text, call
            action = longer

    async def generate(self, drawn: Generation | None, limit: int) -> Generation:
        """Draws until the action has `limit` tokens of its own; returns them with those drawn before."""
        run, tokens = self.run, drawn.tokens if drawn is not None else ()
        known = (*self.prefix, *tokens)
        with self._blame(Status.TOOL_FAULT, drawn):
            dialect = members.DIALECT.through(self.env)
            stop = tuple(dialect.stop) if dialect is not None else ()
        with self._blame(Status.RENDERER_FAULT, drawn):
            tail = run.renderer.text(known) if known else ""
        params = Sampling(limit - len(tokens), run.limits.temperature, stop, run.renderer.stop_tokens)
        await self._tick()
        with self._blame(Status.POLICY_FAULT, drawn):
            seed = self.growth.seed(self.key, "action")
            async with asyncio.timeout(run.limits.policy_timeout):
                more = await run.policy.generate([*self.context, *tokens], params, seed=seed, offset=len(known), tail=tail)
            more = door.generation(more, params, run.policy.vocabulary_size)
        if drawn is None:
            return more
        return replace(
            more,
            tokens=drawn.tokens + more.tokens,
            logprobs=drawn.logprobs + more.logprobs,
            entropies=drawn.entropies + more.entropies,
        )

    def _read(self, action: Generation) -> tuple[str, str]:
        """Returns the text of an action, also in the environment's dialect."""
        with self._blame(Status.RENDERER_FAULT, action):
            text = self.run.renderer.text((*self.prefix, *action.tokens))
            return text, self.run.renderer.action(text)

    def _goes_on(self, action: Generation, text: str, call: str) -> bool:
        """Whether the action is not over, although an engine stopped."""
        with self._blame(Status.TOOL_FAULT, action):
            return door.goes_on(action, text, call, members.DIALECT.through(self.env), self.run.renderer.stop_tokens)

    # --- decide and fork --------------------------------------------------------------------------------------

    async def decide(self, probe: Generation | None) -> None:
        """Asks the strategy how many siblings to add, and forks."""
        branching = self.run.branching
        if not branching.forks:
            return
        point = self._branch_point(probe)
        with self._blame(Status.BRANCHING_FAULT, probe):
            wanted = branching.on_result(point, self.growth.generator("branch", point.key))
            asked = door.count(wanted)
            count = min(asked, point.left)
            if branching.keeps == "none" or asked:  # a strategy that grows trees afterwards considers nothing here
                why = weighed(branching, point, branching.probe)
                before, after, chance = map(door.short, (why.before, why.after, why.probability))
                self.tree.decide(self.parent, Decision(before, after, chance, asked, count))
        self.consecutive = self.consecutive + 1 if count > 0 else 0
        if count > 0:
            await self.fork(count)

    async def fork(self, count: int) -> None:
        """Launches siblings from the state before the probe, each in a clone of the environment."""
        # each fork gets its part of what is left: with one common purse, whoever came first would shape the tree
        self.quota, *quotas = split_evenly(max(0, self.quota - count), count + 1)
        keys = self.growth.allot(self.parent, count)
        envs = await self.growth.environments.clone(self.env, [self.growth.seed(key, "env") for key in keys])
        for key, env, quota in zip(keys, envs, quotas, strict=True):
            replace(self, key=key, origin="branch", quota=quota, context=[*self.context]).launch(env)

    def _branch_point(self, probe: Generation | None) -> BranchPoint:
        """Returns what the strategy sees."""
        nodes = self.tree.nodes
        seen = nodes[self.parent]
        called = nodes[seen.parent]
        return BranchPoint(
            key=seen.key,
            tool_calls=self.tree.depth(self.parent),
            forks=sum(nodes[n].origin == "branch" for n, _ in self.tree.path(self.parent)),
            baseline=_first_action_entropies(self.tree, self.parent),
            probe=probe.entropies if probe is not None else (),
            left=max(0, self.growth.forks_left(self.quota)),
            vocabulary_size=self.run.policy.vocabulary_size,
            consecutive=self.consecutive,
            actions=_own_actions_entropies(self.tree, self.parent),
            tool=called.tool,
            status=called.tool_status,
            text=seen.text,
        )

    # --- step and observe ---------------------------------------------------------------------------------------

    async def step(self, action: Generation, call: str) -> door.Outcome:
        """Hands the action to the environment."""
        with self._blame(Status.TOOL_FAULT, action):
            return door.outcome(await self.run.call(self.env.step, call))

    async def observe(self, action: int, observation: str, *, after_result: bool) -> None:
        """Appends what the environment said and gets ready for the next action; if it does not fit, the trajectory ends."""
        run, room = self.run, self.room - self.run.limits.answer_reserve
        self.parent, self.parent_at = action, len(self.tree.nodes[action].tokens)
        # a failure from here on becomes a child of the action, which is already in the tree
        self.key, self.origin, self.replayed = (*self.key, 0), "", 0
        with self._blame(Status.RENDERER_FAULT):
            ended = self.context[-1] in run.renderer.stop_tokens
            encoded = run.renderer.observation(observation, max(0, room), ended=ended)
        if not encoded.fits:
            raise self._full()
        node = self.growth.add("observation", self.key, action, self.parent_at, encoded.tokens, text=encoded.text)
        self.context += encoded.tokens
        self.key, self.parent, self.parent_at = self.growth.next_key(node), node, len(encoded.tokens)
        self.prefix, self.after_result = (), after_result
        if run.branching.keeps == "action":
            self.replayed = await self.growth.environments.park(self.env, node)

    # --- the end ----------------------------------------------------------------------------------------------

    @contextmanager
    def _blame(self, status: Status, action: Generation | None = None) -> Iterator[None]:
        """Ends the trajectory with a status if anything is raised within; its siblings go on.

        Args:
            status: of the leaf; a `TimeoutError` of a tool or a policy has a status of its own.
            action: what was drawn so far, which is kept.
        """
        try:
            yield
        except Exception as error:  # a policy, a tool, a renderer or a strategy may fail in any way
            if isinstance(error, NotForkable):  # found out only when the clone was first stepped
                status = Status.CLONE_FAILED
                self.growth.environments.note_unforkable(error)
            late = {Status.TOOL_FAULT: Status.TOOL_TIMEOUT, Status.POLICY_FAULT: Status.POLICY_TIMEOUT}
            status = late.get(status, status) if isinstance(error, TimeoutError) else status
            self.growth.note(status, error)
            raise _Ended(status, reason(error), action) from error

    def _full(self) -> _Ended:
        """Returns the end of a trajectory whose context is full."""
        return _Ended(Status.CONTEXT_FULL, **self._given_up(None, None))

    def _given_up(self, action: Generation | None, reward: float | None) -> dict[str, Any]:
        """Returns what the environment pays and measures of an episode that ends here without an answer.

        Args:
            action: the last one, if it is not in the tree yet.
            reward: of that action.
        """
        with self._blame(Status.TOOL_FAULT, action):
            paid = members.FORFEIT.of(self.env.unwrapped)()
            if paid is not None:
                reward = door.reward(paid) + (reward or 0.0)
            return {"reward": reward, "measures": self._measures()}

    def _measures(self) -> dict[str, float] | None:
        """Returns what the environment measured of the episode."""
        return door.measures(members.MEASURES.through(self.env)()) or None

    def _readable(self, action: Generation | None) -> str:
        """Returns the text of the action under way when a trajectory failed; "" if it cannot be decoded."""
        if action is None:
            return ""
        try:
            return self.run.renderer.text((*self.prefix, *action.tokens))
        except Exception:  # noqa: BLE001  # this may be why the trajectory failed, and the leaf says so
            return ""

    def _record(self, action: Generation | None, **fields: Any) -> int:
        """Appends the action to the tree."""
        action = action or Generation((), (), (), "length", self.run.policy.version)
        self.context += action.tokens
        # a fork may be brought into its state only when it is stepped
        rebuilt = members.REPLAYED_CALLS.of(self.env.unwrapped)
        replayed, self.counted = self.replayed + rebuilt - self.counted, rebuilt
        return self.growth.add(
            "action",
            self.key,
            self.parent,
            self.parent_at,
            action.tokens,
            sampled=repeated(True, len(action.tokens), "sampled"),
            logprobs=action.logprobs,
            entropies=action.entropies,
            origin=self.origin,
            seed=self.growth.seed(self.key, "action"),
            policy_version=action.version,
            replayed=replayed,
            **fields,
        )

    async def _tick(self) -> None:
        await self.run.clock.tick((self.growth.index, *self.key))


def _first_action_entropies(tree: RolloutTree, index: int) -> tuple[float, ...]:
    """Returns the entropies of the first action on the path to `index`: the baseline, which its forks inherit."""
    entropies: list[float] = []
    for node, stop in tree.path(index)[1:]:
        if tree.nodes[node].kind != "action":
            break
        entropies += tree.nodes[node].entropies[:stop]
    return tuple(entropies)


def _idle_turns(tree: RolloutTree, index: int) -> int:
    """Returns how many turns in a row, up to the one that ends at or above `index`, were neither a call nor an answer."""
    count = 0
    turns = [tree.nodes[tree.nodes[node].parent] for node, _ in tree.path(index) if tree.nodes[node].kind == "observation"]
    for turn in reversed(turns):
        if turn.tool_status != door.MISTAKE:
            break
        count += 1
    return count


def _own_actions_entropies(tree: RolloutTree, index: int) -> tuple[tuple[float, ...], ...]:
    """Returns the entropies of each action above `index`, back to where its path began."""
    actions: list[tuple[float, ...]] = []
    for node, _ in reversed(tree.path(index)):
        if tree.nodes[node].kind == "action":
            actions.append(tuple(tree.nodes[node].entropies))
            if tree.nodes[node].origin:
                break
    return tuple(reversed(actions))
