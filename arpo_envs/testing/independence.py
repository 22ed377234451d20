"""Laws about independence: copies do not affect each other, and what a user does to an info affects nothing."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..errors import CloneError
from ..forking import clone, clone_many, snapshot
from ..restoring import restore
from .bench import Bench, Case, compare
from .fidelity import is_sound, where_sound
from .laws import Law
from .probing import mutable_parts, vandalise
from .report import Finding
from .runs import Trace, act, last_return

_HINT = "Something mutable is shared: a class attribute, a global, a list copied by reference, a session cloned as itself."


def independent(bench: Bench) -> Iterator[Finding]:
    """Parent, child and grandchild are played in any order, each like a run that was never forked."""
    yield from where_sound(bench.cases, partial(_independent, bench), partial(is_sound, bench))


def _independent(bench: Bench, case: Case) -> Iterator[Finding]:
    yield from _one_after_the_other(bench, case, parent_first=True)
    yield from _one_after_the_other(bench, case, parent_first=False)
    yield from _in_turns(bench, case)
    yield from _many(bench, case)


def _one_after_the_other(bench: Bench, case: Case, *, parent_first: bool) -> Iterator[Finding]:
    with bench.at(case) as parent, clone(parent) as child, clone(child) as grandchild:
        order = [("the parent", parent, case.rest, case.wanted), ("the child", child, case.other, case.other_wanted)]
        order = order if parent_first else order[::-1]
        order.append(("the grandchild", grandchild, case.rest, case.wanted))
        acted = ""
        for who, env, actions, wanted in order:
            yield from compare(Law.INDEPENDENT, f"{who}{acted}", case, act(env, actions), wanted, _HINT)
            acted = f", after {who} acted"


def _in_turns(bench: Bench, case: Case) -> Iterator[Finding]:
    with bench.at(case) as parent, clone(parent) as child:
        mine: Trace = ()
        its: Trace = ()
        for i in range(max(len(case.wanted), len(case.other_wanted))):
            mine += act(parent, case.rest[i : i + 1]) if i < len(case.wanted) else ()
            its += act(child, case.other[i : i + 1]) if i < len(case.other_wanted) else ()
        who = "the parent, acting in turns with its child"
        yield from compare(Law.INDEPENDENT, who, case, mine, case.wanted, _HINT)
        who = "the child, acting in turns with its parent"
        yield from compare(Law.INDEPENDENT, who, case, its, case.other_wanted, _HINT)


def _many(bench: Bench, case: Case) -> Iterator[Finding]:
    with bench.at(case) as parent:
        children = clone_many(parent, [None, None, 5])
        for i, child in enumerate(children):
            if isinstance(child, CloneError):
                yield Finding(Law.INDEPENDENT, f"child {i} of clone_many: {child}", "a clone", "See the message.")
                continue
            actions, wanted = (case.rest, case.wanted) if i == 0 else (case.other, case.other_wanted)
            seen = act(child, actions)
            child.close()
            if i < 2:  # the third has its own seed: it only has to run
                yield from compare(Law.INDEPENDENT, f"child {i} of clone_many", case, seen, wanted, _HINT)
        seen = act(parent, case.rest)
        yield from compare(Law.INDEPENDENT, "the parent after clone_many", case, seen, case.wanted, _HINT)


def closes(bench: Bench) -> Iterator[Finding]:
    """Parent, children and snapshots outlive each other's close()."""
    yield from where_sound(bench.cases, partial(_closes, bench), partial(is_sound, bench))


def _closes(bench: Bench, case: Case) -> Iterator[Finding]:
    hint = "close() may free only what this copy alone owns; share nothing that needs closing, or count its users."
    with bench.at(case) as parent, clone(parent) as kept, snapshot(parent) as snap:
        clone(parent).close()
        with snapshot(parent) as brief:
            brief.close()
        seen = act(parent, case.rest)
        yield from compare(Law.CLOSE, "the parent of a closed clone", case, seen, case.wanted, hint)
        parent.close()
        yield from compare(Law.CLOSE, "a clone of a closed parent", case, act(kept, case.rest), case.wanted, hint)
        kept.close()
        with snap.spawn() as spawned:
            seen = act(spawned, case.other)
            yield from compare(Law.CLOSE, "an environment spawned later", case, seen, case.other_wanted, hint)
        restore(parent, snap)
        yield from compare(Law.CLOSE, "restored after close()", case, act(parent, case.rest), case.wanted, hint)


def private_info(bench: Bench) -> Iterator[Finding]:
    """What was returned belongs to the user: changing it changes nothing, and no two steps or copies share it."""
    for case in bench.cases:
        yield from _never_shared(bench, case)
    yield from where_sound(bench.cases, partial(_never_read_again, bench), partial(is_sound, bench))


def _never_shared(bench: Bench, case: Case) -> Iterator[Finding]:
    kept: list[tuple[str, str, Any]] = []  # keeps the objects alive, so that no id is given twice
    findings: list[Finding] = []

    def watch(who: str, observation: Any, info: dict[str, Any]) -> None:
        number = 1 + sum(path == "info" for _, path, _ in kept)
        place = f"{who} (return {number})"
        fresh = [*mutable_parts(observation, "observation"), *mutable_parts(info)]
        for path, part in fresh:
            for earlier, other_path, other in kept:
                if _same_memory(part, other):
                    happened = f"{path} of {place} is the very object {other_path} of {earlier}; {case.where}"
                    hint = "Put copies into info (lists too), never the lists and dicts you keep yourself."
                    findings.append(Finding(Law.INFO, happened, "an object of its own", hint))
        kept.extend((place, path, part) for path, part in fresh)

    with bench.env() as parent:
        bench.play(parent, case, lambda observation, info: watch("the parent", observation, info))
        with clone(parent) as child:
            act(parent, case.rest, lambda observation, info: watch("the parent", observation, info))
            act(child, case.rest, lambda observation, info: watch("the clone", observation, info))
    yield from findings


def _same_memory(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return bool(np.shares_memory(one, other))
    return one is other


def _never_read_again(bench: Bench, case: Case) -> Iterator[Finding]:
    hint = "The environment (or a wrapper) keeps the object it returned and reads it again: return a copy."

    def spoil(observation: Any, info: dict[str, Any]) -> None:
        vandalise(observation)
        vandalise(info)

    with bench.env() as env:
        bench.play(env, case, spoil)
        with snapshot(env) as snap, clone(env) as child:
            seen = act(env, case.rest, spoil)
            yield from compare(Law.INFO, "a run whose infos a reader changed", case, seen, case.wanted, hint)
            yield from compare(Law.INFO, "its clone", case, act(child, case.rest), case.wanted, hint)
            spoil(*restore(env, snap))
            if "changed by the user" in repr(last_return(env)):
                yield Finding(Law.INFO, f"last() returned what a reader had changed; {case.where}", "a copy", hint)
            seen = act(env, case.rest)
            yield from compare(Law.INFO, "restored, after its info was changed", case, seen, case.wanted, hint)
