"""Laws about refusing: the declared level is honest, and wrong snapshots are turned away."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar
from unittest import mock

import gymnasium as gym

from ..core import ToolEnv
from ..errors import ArpoError, NotForkable, SnapshotMismatch
from ..forking import ForkLevel, Snapshot, clone, clone_many, describe, snapshot
from ..members import SESSIONS
from ..restoring import restore
from ..spaces import TextSpace
from .bench import Bench, Case, compare
from .laws import Law
from .report import Finding
from .runs import Env, act, start


def honest(bench: Bench) -> Iterator[Finding]:
    """The declared level is what really happens: NONE raises, EXACT and REPLAY copy, EXACT runs no tool again."""
    with bench.env() as env:
        declared = getattr(env.unwrapped, "fork_level", None)
    if not isinstance(declared, ForkLevel):
        yield Finding(
            Law.LEVEL,
            f"{bench.name} declares no fork_level",
            "an attribute `fork_level` of type ForkLevel on the base environment",
            "Write `fork_level = ForkLevel.EXACT` if a deep copy is right, ForkLevel.NONE if it cannot be copied.",
        )
    elif bench.level is ForkLevel.NONE:
        yield from _refuses_to_fork(bench, declared)
    else:
        yield from _forks(bench)


def _refuses_to_fork(bench: Bench, declared: ForkLevel) -> Iterator[Finding]:
    ways: dict[str, Callable[[Env], Any]] = {
        "clone": clone,
        "snapshot": snapshot,
        "clone_many": lambda env: clone_many(env, [None]),
    }
    seed, actions, _ = next(bench.episodes())
    _, wanted = bench.reference(seed, actions)
    with bench.env() as env:
        start(env, seed)
        for name, way in ways.items():
            try:
                way(env)
            except NotForkable as error:
                if declared is not ForkLevel.NONE and not _declares_none(env):
                    expected = f"a copy: the base declares {declared}"
                    yield Finding(Law.LEVEL, str(error), expected, "Do what the message says.")
                    return
            else:
                expected = "NotForkable: the stack declares NONE"
                yield Finding(Law.LEVEL, f"{name}() returned something", expected, "Raise NotForkable.")
        case = Case(seed, (), actions, (), wanted, (), forked=False)
        hint = "A refusal must change nothing."
        yield from compare(Law.LEVEL, "after the refusal", case, act(env, actions), wanted, hint)


def _declares_none(env: Env) -> bool:
    while isinstance(env, gym.Wrapper):
        if getattr(type(env), "fork_level", None) is ForkLevel.NONE:
            return True
        env = env.env
    return False


def _forks(bench: Bench) -> Iterator[Finding]:
    for seed, actions, _ in bench.episodes():
        with bench.env() as env, ExitStack() as closing:
            start(env, seed)
            act(env, actions[: len(actions) // 2])
            try:
                with _counted_calls(env) as calls:
                    closing.callback(clone(env).close)
                    closing.callback(snapshot(env).close)
            except ArpoError as error:
                yield Finding(
                    Law.LEVEL,
                    f"a copy failed with {type(error).__name__}: {error}",
                    f"a copy: the stack declares {bench.level}",
                    "Do what the message says, or declare fork_level NONE.",
                )
                return
            if calls and bench.level is ForkLevel.EXACT:
                yield Finding(
                    Law.LEVEL,
                    f"copying ran {len(calls)} tool call(s) again",
                    "none: the stack declares EXACT",
                    "Copy the session's state, or declare the tool's fork_level as REPLAY.",
                )


@contextmanager
def _counted_calls(env: Env) -> Iterator[list[str]]:
    """Lists the tool calls that sessions of these classes run meanwhile."""
    ran: list[str] = []
    with ExitStack() as patches:
        for kind in {type(session) for session in SESSIONS.of(env.unwrapped).values()}:
            original = kind.call

            def counting(self: Any, name: str, *args: Any, _original: Any = original, **kwargs: Any) -> Any:
                ran.append(name)
                return _original(self, name, *args, **kwargs)

            patches.enter_context(mock.patch.object(kind, "call", counting))
        yield ran


class _Elsewhere(gym.Env[str, str]):
    """An environment other than any that is checked."""

    fork_level: ClassVar[ForkLevel] = ForkLevel.EXACT

    def __init__(self) -> None:
        self.observation_space = self.action_space = TextSpace()

    def last(self) -> tuple[str, dict[str, Any]]:
        return "", {}


class _Around(gym.Wrapper[Any, Any, Any, Any]):
    """A wrapper other than any that is checked."""


def refuses(bench: Bench) -> Iterator[Finding]:
    """Snapshots of another stack, class or arguments, and closed ones, raise SnapshotMismatch and do no harm."""
    case = bench.cases[-1]
    with bench.at(case) as env, ExitStack() as closing:
        for what, foreign in _wrong_snapshots(bench, case, closing):
            yield from _refused(env, foreign, what)
        hint = "Check everything before changing anything."
        yield from compare(Law.REFUSAL, "after the refusals", case, act(env, case.rest), case.wanted, hint)


def _wrong_snapshots(bench: Bench, case: Case, closing: ExitStack) -> Iterator[tuple[str, Snapshot]]:
    wrapped = closing.enter_context(bench.at(case))
    yield "of the same environment in one more wrapper", closing.enter_context(snapshot(_Around(wrapped)))
    if isinstance(wrapped, gym.Wrapper):
        yield "of the same environment without its outermost wrapper", closing.enter_context(snapshot(wrapped.env))
    yield "of another class of environment", closing.enter_context(snapshot(_Elsewhere()))
    if isinstance(wrapped.unwrapped, ToolEnv):
        wrapped.unwrapped.max_turns += 1
        yield "of the same class with other arguments (max_turns)", closing.enter_context(snapshot(wrapped))
    closed = snapshot(closing.enter_context(bench.at(case)))
    closed.close()
    yield "that was closed", closed


def _refused(env: Env, wrong: Snapshot, what: str) -> Iterator[Finding]:
    expected = f"SnapshotMismatch naming {wrong.owner}"
    hint = "identity() must distinguish environments of other classes and arguments; leave restoring to restore()."
    try:
        restore(env, wrong)
    except SnapshotMismatch as error:
        if wrong.owner not in str(error):
            yield Finding(Law.REFUSAL, f"a snapshot {what} was refused with: {error}", expected, hint)
    else:
        yield Finding(Law.REFUSAL, f"{describe(env)} accepted a snapshot {what}", expected, hint)
