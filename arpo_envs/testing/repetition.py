"""Laws about sameness: whatever is copied, restored or pickled continues exactly as the original would."""

import copy
import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..forking import clone, layers, snapshot
from ..restoring import restore
from .bench import Bench, Case, compare
from .laws import Law
from .probing import aliases, env_generators, random_state
from .report import Finding, SkippedLaw
from .runs import Env, Step, act, deviation, difference, start, without_clocks

_PLAIN = (bool, int, float, str, bytes, tuple, type(None))


def reproducible(bench: Bench) -> Iterator[Finding]:
    """A fresh environment, and one that was used before, play the same episode for the same seed and actions."""
    hint = "Draw only from np_random (never from global generators or the clock), and let reset() reset everything."
    for seed, actions, other in bench.episodes():
        first, wanted = bench.reference(seed, actions)
        case = Case(seed, (), actions, other, wanted, (), forked=False)
        with bench.env() as env:
            for who in ("a second environment", "the same environment, reset again"):
                begun = start(env, seed)
                found = difference(begun.observation, first.observation, "observation") or difference(
                    begun.info, first.info, "info"
                )
                if found is not None:
                    yield Finding(Law.REPRODUCIBLE, f"{who}: {found[0]}; seed {seed}", found[1], hint)
                yield from compare(Law.REPRODUCIBLE, who, case, act(env, actions), wanted, hint)


def repeats(bench: Bench) -> Iterator[Finding]:
    """Restoring once, twice, after another ending and into a second environment repeats everything."""
    hint = "Some state is not among the attributes that are copied: look for class attributes, globals, outside resources."
    for case in bench.cases:
        with bench.env() as env, bench.env() as second:
            before = bench.play(env, case)
            with snapshot(env) as snap:
                for who in ("restored", "restored after the run", "restored once more"):
                    yield from _returns(restore(env, snap), before, who, case)
                    yield from compare(Law.REPEATS, who, case, act(env, case.rest), case.wanted, hint)
                restore(env, snap)
                who = "restored, other actions"
                yield from compare(Law.REPEATS, who, case, act(env, case.other), case.other_wanted, hint)
                who = "restored into a second environment"
                yield from _returns(restore(second, snap), before, who, case)
                yield from compare(Law.REPEATS, who, case, act(second, case.rest), case.wanted, hint)


def _returns(returned: tuple[Any, dict[str, Any]], before: Step, who: str, case: Case) -> Iterator[Finding]:
    """Compares what restore() returned with what the stack returned in that step; layers may have added to info."""
    observation, info = returned[0], without_clocks(returned[1])
    told = {key: before.info[key] for key in info if key in before.info}
    found = difference(observation, before.observation, "observation") or difference(info, told, "info")
    if found is not None:
        hint = "last() must return a copy of the observation and info of the last reset or step. A wrapper outside the "
        hint += "layer with last() that changes them needs a last() of its own, or must be a gymnasium.ObservationWrapper."
        yield Finding(Law.REPEATS, f"{who}: restore() returned another step: {found[0]}; {case.where}", found[1], hint)


def untouched(bench: Bench) -> Iterator[Finding]:
    """A run with a snapshot and a clone in its middle equals one without, in random state too."""
    hint = "Copying must only read: draw nothing, count nothing, close nothing."
    for case in bench.cases:
        with bench.at(case) as env:
            before = _random_states(env)
            snapshot(env).close()
            clone(env, seed=5).close()
            found = difference(_random_states(env), before, "random state")
            if found is not None:
                yield Finding(Law.UNTOUCHED, f"{found[0]}; {case.where}", found[1], hint)
            who = "the run that was snapshotted and cloned"
            yield from compare(Law.UNTOUCHED, who, case, act(env, case.rest), case.wanted, hint)


def _random_states(env: Env) -> dict[str, Any]:
    states = {path: random_state(generator) for path, generator in env_generators(env).items()}
    return states | {"Python's random": random.getstate(), "numpy.random": _legacy_state()}


def _legacy_state() -> Any:
    return np.random.get_state()  # noqa: NPY002  # read, to see whether somebody else used it


def travels(bench: Bench) -> Iterator[Finding]:
    """A clone holds the same counters and random states in every layer, and its episode ends at the same step."""
    for case in bench.cases:
        with bench.at(case) as env, clone(env) as twin:
            yield from _same_randomness(env, twin, case)
            yield from _same_counters(env, twin, case)
            ends = [(step.terminated, step.truncated) for step in act(twin, case.rest)]
            wanted = [(step.terminated, step.truncated) for step in case.wanted]
            if ends != wanted:
                yield Finding(
                    Law.TRAVELS,
                    f"the clone's (terminated, truncated) went {ends}; {case.where}",
                    str(wanted),
                    "A wrapper keeps its counter outside itself, where the copy does not find it.",
                )


def _same_randomness(env: Env, twin: Env, case: Case) -> Iterator[Finding]:
    mine, copied = env_generators(env), env_generators(twin)
    for path in mine.keys() & copied.keys():
        if mine[path] is copied[path]:
            expected, hint = "a generator of its own", "Copy generators in __deepcopy__ and in Session.clone()."
            yield Finding(Law.TRAVELS, f"the clone shares the generator {path}; {case.where}", expected, hint)
        elif difference(random_state(mine[path]), random_state(copied[path]), path) is not None:
            expected, hint = "the original's state", "Copy the generator itself; do not make a new one."
            happened = f"the clone's generator {path} is in another state; {case.where}"
            yield Finding(Law.TRAVELS, happened, expected, hint)
    if aliases(mine) != aliases(copied):
        groups = ", ".join(" = ".join(sorted(group)) for group in aliases(mine) ^ aliases(copied))
        yield Finding(
            Law.TRAVELS,
            f"one generator became two, or two became one: {groups}; {case.where}",
            "the same places share a generator in the clone as in the original",
            "Give every session a generator of its own, seeded when it is opened.",
        )


def _same_counters(env: Env, twin: Env, case: Case) -> Iterator[Finding]:
    for layer, copied in zip(layers(env), layers(twin), strict=True):
        for name, value in vars(layer).items():
            if not isinstance(value, _PLAIN):
                continue
            found = difference(vars(copied).get(name), value, f"the clone's {type(layer).__name__}.{name}")
            if found is not None:
                hint = "__deepcopy__ must copy every attribute."
                yield Finding(Law.TRAVELS, f"{found[0]}; {case.where}", found[1], hint)


def reseeds(bench: Bench) -> Iterator[Finding]:
    """Equal seeds give equal clones, and every generator that is drawn from obeys the seed."""
    hint = "Give the layer (or session) a method reseed(seed) that replaces every generator it draws from."
    drawn = False
    for case in bench.cases:
        with bench.at(case) as env, clone(env) as plain, clone(env, seed=5) as one, clone(env, seed=6) as other:
            start_plain, start_one, start_other = _drawable(plain), _drawable(one), _drawable(other)
            act(plain, case.rest)
            now = _drawable(plain)
            moved = {path for path in now.keys() & start_plain.keys() if _differ(now[path], start_plain[path])}
            for path in sorted(moved & start_one.keys() & start_other.keys()):
                if not _differ(start_one[path], start_other[path]):
                    happened = f"{path} is drawn from, and is the same in clones with the seeds 5 and 6; {case.where}"
                    yield Finding(Law.RESEED, happened, "random states that differ", hint)
            first, differently = act(one, case.rest), act(other, case.rest)
            with clone(env, seed=5) as again:
                who = "a second clone with seed 5"
                yield from compare(Law.RESEED, who, case, act(again, case.rest), first, hint)
            drawn = drawn or bool(moved) or deviation(first, differently) is not None
    if not drawn:
        raise SkippedLaw("these actions draw nothing at random after the fork")


def _drawable(env: Env) -> dict[str, Any]:
    return {path: random_state(generator) for path, generator in env_generators(env).items()}


def _differ(one: Any, other: Any) -> bool:
    return difference(one, other, "") is not None


def deepcopies(bench: Bench) -> Iterator[Finding]:
    """`copy.deepcopy(env)`, which unaware users write, gives what `clone` gives."""
    yield from _same_copy(bench, Law.DEEPCOPY, copy.deepcopy, "Put into __deepcopy__ what the clone needs.")


def _same_copy(bench: Bench, law: Law, duplicate: Callable[[Env], Env], hint: str) -> Iterator[Finding]:
    for case in bench.cases:
        with bench.at(case) as env, duplicate(env) as twin:
            yield from compare(law, "the copy", case, act(twin, case.rest), case.wanted, hint)
            yield from compare(law, "the original", case, act(env, case.other), case.other_wanted, hint)


def portable(bench: Bench) -> Iterator[Finding]:
    """If a snapshot says it is portable, its pickle restores and spawns the same state."""
    hint = "Pickling must keep every attribute: check __getstate__ and __reduce__, and drop EzPickle."
    for case in bench.cases:
        with bench.at(case) as env, snapshot(env) as snap:
            if not snap.portable:
                raise SkippedLaw("the snapshot is not portable: it does not pickle")
            with pickle.loads(pickle.dumps(snap)) as arrived, arrived.spawn() as spawned:
                yield from compare(Law.PORTABLE, "spawned", case, act(spawned, case.rest), case.wanted, hint)
                act(env, case.other)
                restore(env, arrived)
                yield from compare(Law.PORTABLE, "restored", case, act(env, case.rest), case.wanted, hint)
