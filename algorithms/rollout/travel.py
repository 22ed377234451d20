"""One path on its way down a tree: act, step, observe; probe and decide after each tool result."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from .. import seeds
from ..branching import BranchPoint
from ..policies import Generation, Sampling
from ..tree import RolloutTree, Status
from . import door
from .failures import reason
from .limits import TextEnv, split_evenly

if TYPE_CHECKING:
    from .growth import Growth

Origin = Literal["", "root", "branch", "backfill"]


@dataclass
class Path:
    """A path on its way down.

    Args:
        key: of the node it will add next.
        parent: index of the node it hangs on; `parent_at` of that node's tokens are inherited.
        origin: how it came to be; "" once its first node is added.
        quota: forks it may still make where each root has its share of the budget.
        env: its own live environment.
        context: all token ids so far.
        prefix: tokens of the action under way that it inherited (a fork inside an action).
        after_result: whether the next action is the first one after a tool result, where forks are decided.
        replayed: tool calls that were run again to make `env`, not yet written to a node.
        consecutive: tool results in a row, up to the last one, at which it forked or was forked off.
    """

    key: tuple[int, ...]
    parent: int
    parent_at: int
    origin: Origin
    quota: int
    env: TextEnv
    context: list[int]
    prefix: tuple[int, ...]
    after_result: bool
    replayed: int
    consecutive: int = 0


class _Failed(Exception):
    """Ends a path with a status; carries the tokens of the action under way."""

    def __init__(self, status: Status, fault: str = "", action: Generation | None = None, reward: float | None = None) -> None:
        super().__init__(status)
        self.status, self.fault, self.action, self.reward = status, fault, action, reward


async def travel(growth: "Growth", path: Path) -> None:
    """Follows a path to its end; whatever fails on the way becomes the status of its leaf."""
    try:
        await _follow(growth, path)
    except _Failed as end:
        await _tick(growth, path)
        text = _readable(growth, path, end.action)
        _record(growth, path, end.action, status=end.status, fault=end.fault, reward=end.reward, text=text)
    finally:
        await growth.discard(path.env)
        growth.landed()


async def _follow(growth: "Growth", path: Path) -> None:
    while True:
        action = await _act(growth, path)
        with _blame(growth, Status.TOOL_FAULT, action):
            anchor = getattr(path.env.unwrapped, "anchor", None)
            state = anchor() if callable(anchor) else None
        with _blame(growth, Status.RENDERER_FAULT, action):
            text = growth.run.renderer.text((*path.prefix, *action.tokens))
            call = growth.run.renderer.action(text)
        await _tick(growth, path)
        said = await _step(growth, path, action, call)
        await _tick(growth, path)
        ran = {"tool": said.tool, "tool_status": said.status}
        fields: dict[str, Any] = {"text": text, "reward": said.reward, "anchor": state, **ran}
        if said.terminated or said.truncated:
            status = Status.ANSWERED if said.terminated else Status.TRUNCATED
            _record(growth, path, action, status=status, success=said.success, **fields)
            return
        node = _record(growth, path, action, **fields)
        await _observe(growth, path, node, said.observation, after_result=bool(said.tool))


@contextmanager
def _blame(growth: "Growth", status: Status, action: Generation | None = None) -> Iterator[None]:
    """Ends the path with a status if anything is raised within; its siblings go on.

    Args:
        growth: which is told.
        status: of the leaf; a `TimeoutError` of a tool or a policy makes it the status for that.
        action: what was drawn so far, which is kept.
    """
    try:
        yield
    except Exception as error:  # a policy, a tool, a renderer or a strategy may fail in any way
        late = {Status.TOOL_FAULT: Status.TOOL_TIMEOUT, Status.POLICY_FAULT: Status.POLICY_TIMEOUT}
        status = late.get(status, status) if isinstance(error, TimeoutError) else status
        growth.failed(status, error)
        raise _Failed(status, reason(error), action) from error


def _readable(growth: "Growth", path: Path, action: Generation | None) -> str:
    """Returns the text of an action that came to nothing, as far as it can be read."""
    if action is None:
        return ""
    try:
        return growth.run.renderer.text((*path.prefix, *action.tokens))
    except Exception:  # noqa: BLE001  # it may be the reason why the path failed, and the leaf says so
        return ""


async def _act(growth: "Growth", path: Path) -> Generation:
    """Draws one action: probe, decide, continue; the probe and its continuation are one action."""
    limits, strategy = growth.run.limits, growth.run.branching
    room = growth.run.policy.context_length - len(path.context)
    limit = min(limits.action_tokens - len(path.prefix), room)
    if limit < 1:
        raise _full(growth, path)
    action: Generation | None = None
    if path.after_result:
        path.after_result = False
        if strategy.probe:
            action = await _generate(growth, path, None, min(strategy.probe, limit))
        await _tick(growth, path)
        await _decide(growth, path, action)
    if action is None or (action.finish == "length" and len(action.tokens) < limit):
        action = await _generate(growth, path, action, limit)
    while len(action.tokens) < limit and _goes_on(growth, path, action):
        longer = await _generate(growth, path, action, limit)
        if longer.tokens == action.tokens:
            break
        action = longer
    return action


def _goes_on(growth: "Growth", path: Path, action: Generation) -> bool:
    """Whether an engine stopped at a stop string that ends nothing: it stands in a thought, or in a text of a call."""
    run = growth.run
    if action.finish != "stop" or not action.tokens or action.tokens[-1] in run.renderer.stop_tokens:
        return False
    with _blame(growth, Status.RENDERER_FAULT, action):
        text = run.renderer.text((*path.prefix, *action.tokens))
        call = run.renderer.action(text)
    with _blame(growth, Status.TOOL_FAULT, action):
        dialect = path.env.get_wrapper_attr("dialect") if path.env.has_wrapper_attr("dialect") else None
        if dialect is None or not any(stop in text for stop in dialect.stop):
            return False
        return bool(getattr(dialect.parse(call), "unfinished", False))


def _full(growth: "Growth", path: Path) -> _Failed:
    """Returns the end of a path whose context has no room, with what the environment pays for that."""
    with _blame(growth, Status.TOOL_FAULT):
        forfeit = getattr(path.env.unwrapped, "forfeit", None)
        reward = door.reward(forfeit()) if callable(forfeit) else None
    return _Failed(Status.CONTEXT_FULL, reward=reward)


async def _generate(growth: "Growth", path: Path, drawn: Generation | None, limit: int) -> Generation:
    """Draws until the path has `limit` tokens of its own in this action; returns them with those drawn before."""
    run = growth.run
    tokens = drawn.tokens if drawn is not None else ()
    known = (*path.prefix, *tokens)
    with _blame(growth, Status.TOOL_FAULT, drawn):
        dialect = path.env.get_wrapper_attr("dialect") if path.env.has_wrapper_attr("dialect") else None
        stop = tuple(dialect.stop) if dialect is not None else ()
    with _blame(growth, Status.RENDERER_FAULT, drawn):
        tail = run.renderer.text(known) if known else ""
    params = Sampling(limit - len(tokens), run.limits.temperature, stop, run.renderer.stop_tokens)
    await _tick(growth, path)
    with _blame(growth, Status.POLICY_FAULT, drawn):
        seed = growth.seed(path.key, "action")
        async with asyncio.timeout(run.limits.policy_timeout):
            more = await run.policy.generate([*path.context, *tokens], params, seed=seed, offset=len(known), tail=tail)
        more = door.generation(more, params, run.policy.vocabulary_size)
    if drawn is None:
        return more
    return replace(
        more,
        tokens=drawn.tokens + more.tokens,
        logprobs=drawn.logprobs + more.logprobs,
        entropies=drawn.entropies + more.entropies,
    )


async def _decide(growth: "Growth", path: Path, probe: Generation | None) -> None:
    """Asks the strategy for siblings and starts them from the state before the probe."""
    run, nodes = growth.run, growth.tree.nodes
    if not run.branching.forks:
        return
    seen = nodes[path.parent]
    called = nodes[seen.parent]
    point = BranchPoint(
        key=seen.key,
        tool_calls=growth.tree.depth(path.parent),
        forks=sum(nodes[n].origin == "branch" for n, _ in growth.tree.path(path.parent)),
        baseline=_first_action_entropies(growth.tree, path.parent),
        probe=probe.entropies if probe is not None else (),
        left=max(0, growth.left(path.quota)),
        vocabulary_size=run.policy.vocabulary_size,
        consecutive=path.consecutive,
        actions=_own_actions_entropies(growth.tree, path.parent),
        tool=called.tool,
        status=called.tool_status,
        text=seen.text,
    )
    rng = seeds.generator(run.seed, run.step, growth.index, "branch", point.key)
    with _blame(growth, Status.BRANCHING_FAULT, probe):
        count = min(door.count(run.branching.on_result(point, rng)), point.left)
    path.consecutive = path.consecutive + 1 if count > 0 else 0
    if count <= 0:
        return
    # each fork takes its part of what is left: were it one purse, who came first would shape the tree
    path.quota, *shares = split_evenly(max(0, path.quota - count), count + 1)
    keys = growth.allot(path.parent, count)
    envs = await growth.clones(path.env, keys)
    for key, env, quota in zip(keys, envs, shares, strict=True):
        context = list(path.context)
        growth.launch(key, path.parent, path.parent_at, "branch", quota, env, context, consecutive=path.consecutive)


async def _step(growth: "Growth", path: Path, action: Generation, text: str) -> door.Outcome:
    with _blame(growth, Status.TOOL_FAULT, action):
        said = door.outcome(await growth.call(path.env.step, text))
    return said


async def _observe(growth: "Growth", path: Path, action: int, observation: str, *, after_result: bool) -> None:
    """Appends what the environment said and gets the path ready for its next action; what does not fit ends the path."""
    run = growth.run
    room = run.policy.context_length - len(path.context) - run.limits.answer_reserve
    path.parent, path.parent_at = action, len(growth.tree.nodes[action].tokens)
    path.key, path.origin, path.replayed = (*path.key, 0), "", 0  # what fails from here on hangs on the action, which stands
    with _blame(growth, Status.RENDERER_FAULT):
        ended = path.context[-1] in run.renderer.stop_tokens
        encoded = run.renderer.observation(observation, max(0, room), ended=ended)
    if not encoded.fits:
        raise _full(growth, path)
    node = growth.add("observation", path.key, action, path.parent_at, encoded.tokens, text=encoded.text)
    path.context += encoded.tokens
    path.key, path.parent, path.parent_at = growth.next_key(node), node, len(encoded.tokens)
    path.prefix, path.after_result = (), after_result
    if run.branching.keeps == "action":
        path.replayed = await growth.park(path.env, node)


def _record(growth: "Growth", path: Path, action: Generation | None, **fields: Any) -> int:
    """Appends the path's action to the tree."""
    action = action or Generation((), (), (), "length", growth.run.policy.version)
    path.context += action.tokens
    return growth.add(
        "action",
        path.key,
        path.parent,
        path.parent_at,
        action.tokens,
        sampled=(True,) * len(action.tokens),
        logprobs=action.logprobs,
        entropies=action.entropies,
        origin=path.origin,
        seed=growth.seed(path.key, "action"),
        policy_version=action.version,
        replayed=path.replayed,
        **fields,
    )


async def _tick(growth: "Growth", path: Path) -> None:
    await growth.run.clock.tick((growth.index, *path.key))


def _first_action_entropies(tree: RolloutTree, index: int) -> tuple[float, ...]:
    """Returns the entropies of the first action above `index`: the path's baseline, inherited by its forks."""
    entropies: list[float] = []
    for node, stop in tree.path(index)[1:]:
        if tree.nodes[node].kind != "action":
            break
        entropies += tree.nodes[node].entropies[:stop]
    return tuple(entropies)


def _own_actions_entropies(tree: RolloutTree, index: int) -> tuple[tuple[float, ...], ...]:
    """Returns the entropies of the actions above `index` back to where its path began."""
    actions: list[tuple[float, ...]] = []
    for node, _ in reversed(tree.path(index)):
        if tree.nodes[node].kind == "action":
            actions.append(tuple(tree.nodes[node].entropies))
            if tree.nodes[node].origin:
                break
    return tuple(reversed(actions))
