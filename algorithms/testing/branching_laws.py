"""Laws about growing: where a strategy branches, and what it may look at."""

import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from arpo_envs.testing import Finding, SkippedLaw

from ..branching.strategy import BranchingStrategy
from .laws import AlgorithmLaw as Law
from .playground import Playground


def parts(ground: Playground) -> Iterator[Finding]:
    """Name, source, and the members of the parts."""
    algorithm, strategy = ground.algorithm, ground.algorithm.branching
    for name in ("name", "source"):
        if not isinstance(getattr(algorithm, name), str) or not getattr(algorithm, name).strip():
            happened = f"the {name} is {getattr(algorithm, name)!r}"
            yield Finding(Law.PARTS, happened, "a non-empty string", "Runs and tables are labelled with it.")
    hint = "See algorithms.branching.BranchingStrategy."
    if not isinstance(strategy, BranchingStrategy):
        members = ("keeps", "probe", "forks", "roots", "plan", "on_result")
        missing = ", ".join(name for name in members if not hasattr(strategy, name))
        yield Finding(Law.PARTS, f"{strategy!r} is not a branching strategy", f"members {missing}", hint)
        return
    if strategy.keeps not in ("none", "action"):
        yield Finding(Law.PARTS, f"keeps is {strategy.keeps!r}", "'none' or 'action'", hint)
    if not isinstance(strategy.probe, int) or strategy.probe < 0:
        yield Finding(Law.PARTS, f"probe is {strategy.probe!r}", "a number of tokens, 0 or more", hint)
    if strategy.roots is not None and (not isinstance(strategy.roots, int) or strategy.roots < 1):
        yield Finding(Law.PARTS, f"roots is {strategy.roots!r}", "a number of rollouts, or None for all of them", hint)
    for name in ("advantages", "loss"):
        if not callable(getattr(algorithm, name)):
            yield Finding(Law.PARTS, f"{name} is {getattr(algorithm, name)!r}", "a function", "See docs/add-an-algorithm.md.")


def plans(ground: Playground) -> Iterator[Finding]:
    """Every entry of every plan while trees grow."""
    hint = "Grow after a whole prompt or tool result, or strictly inside an action; inside a tree only with keeps='action'."
    try:
        len(ground.batches)
    except Exception:
        if not ground.watched.complaints:
            raise
    for complaint in dict.fromkeys(ground.watched.complaints):
        yield Finding(Law.PLANS, complaint, "a place in the tree", hint)


def answers(ground: Playground) -> Iterator[Finding]:
    """What `on_result` returned while trees grew."""
    for answer in ground.grown().answers:
        if not isinstance(answer, int | np.integer) or answer < 0:
            hint = "Return how many siblings to add."
            yield Finding(Law.ANSWERS, f"on_result returned {answer!r}", "a whole number, 0 or more", hint)
            return


def no_forks(ground: Playground) -> Iterator[Finding]:
    """A strategy that says it never forks is given environments that cannot be cloned."""
    strategy = ground.algorithm.branching
    if strategy.forks:
        raise SkippedLaw("it declares that it forks")
    watched = ground.grown()
    if watched.inside:
        hint = "Say forks = True: the environment is cloned for that."
        yield Finding(Law.NO_FORKS, f"forks is False, but a plan has {watched.inside[0]}", "roots only", hint)
    if strategy.keeps != "none" or strategy.probe:
        happened = f"forks is False, but keeps is {strategy.keeps!r} and probe is {strategy.probe}"
        yield Finding(Law.NO_FORKS, happened, "'none' and 0", "Neither does anything without forks.")


def roots(ground: Playground) -> Iterator[Finding]:
    """The first plan against `roots`."""
    for started, wanted in ground.grown().first:
        if started != wanted:
            happened = f"the first plan starts {started} rollouts at the prompt; roots is {ground.algorithm.branching.roots}"
            yield Finding(Law.ROOTS, happened, f"{wanted}", "`roots_then_backfill` plans what `roots` says.")
            return


def budget(ground: Playground) -> Iterator[Finding]:
    """How many paths the trees have, and how they ended."""
    for tree in (tree for batch in ground.batches for tree in batch):
        ends = [tree.nodes[leaf].status for leaf in tree.leaves()]
        if not ends:
            hint = "Plan at least one rollout from the prompt first."
            yield Finding(Law.BUDGET, "a tree has no path at all", f"1 to {ground.algorithm.rollouts}", hint)
        if failed := [status for status in ends if status is not None and not status.is_model]:
            yield Finding(Law.BUDGET, f"a path ended as {failed[0]}", "an end the model reached", "The log says what failed.")


def reproducible(ground: Playground) -> Iterator[Finding]:
    """Grown and credited twice."""
    hint = "Draw only from the rng you are given, and keep nothing between calls."
    for seed, trees in zip(ground.seeds, ground.batches, strict=True):
        again = ground.grow(seed)
        if [tree.nodes for tree in again] != [tree.nodes for tree in trees]:
            yield Finding(Law.REPRODUCIBLE, f"seed {seed} grew different trees the second time", "the same trees", hint)
            continue
        one, two = ground.credit(trees), ground.credit(trees)
        for name in ("advantages", "weights", "returns"):
            if not _same(getattr(one, name), getattr(two, name)):
                happened = f"the {name} of the same trees differed the second time"
                yield Finding(Law.REPRODUCIBLE, happened, "the same", hint)


def _same(one: Any, two: Any) -> bool:
    if one is None or two is None:
        return one is two
    return all(np.array_equal(a, b) for rows, others in zip(one, two, strict=True) for a, b in zip(rows, others, strict=True))


def own_randomness(ground: Playground) -> Iterator[Finding]:
    """The states of the global generators, before and after."""
    before = _global_states()
    ground.credit(ground.grow(ground.seeds[0]))
    for name, state in _global_states().items():
        if name in before and before[name] != state:
            hint = "Draw from the rng you are given: then a run is a function of its seed."
            yield Finding(Law.OWN_RANDOMNESS, f"the generator of {name} was drawn from", "nothing", hint)


def _global_states() -> dict[str, str]:
    states = {"random": repr(random.getstate()), "numpy.random": repr(np.random.get_state(legacy=False))}  # noqa: NPY002  # to see who uses it
    if (torch := sys.modules.get("torch")) is not None:
        states["torch"] = repr(torch.get_rng_state().tolist())
    return states


def unchanged(ground: Playground) -> Iterator[Finding]:
    """The algorithm's settings and the trees, before and after use."""
    before = state_of(ground.algorithm)
    trees = ground.grow(ground.seeds[0])
    nodes = [list(tree.nodes) for tree in trees]
    ground.credit(trees)
    if (keep := ground.algorithm.keep) is not None:
        for tree in trees:
            keep(tree)
    if [tree.nodes for tree in trees] != nodes:
        hint = "Build a new tree with dataclasses.replace, as `rewards.with_terms` does."
        yield Finding(Law.UNCHANGED, "credit or keep changed the trees it was given", "unchanged trees", hint)
    if state_of(ground.algorithm) != before:
        hint = "An algorithm is a value: a resumed run starts from its settings, not from what it remembered."
        yield Finding(Law.UNCHANGED, f"{ground.algorithm.name} changed in use", "the same settings", hint)


def state_of(thing: Any, seen: tuple[int, ...] = ()) -> Any:
    """Returns everything a value holds, nested, so that two moments can be compared."""
    if id(thing) in seen:
        return "…"
    seen = (*seen, id(thing))
    if isinstance(thing, list | tuple | set | frozenset):
        return [state_of(item, seen) for item in thing]
    if isinstance(thing, dict):
        return {repr(key): state_of(value, seen) for key, value in thing.items()}
    if isinstance(thing, np.random.Generator):
        return repr(thing.bit_generator.state)
    if isinstance(thing, np.ndarray):
        return thing.tolist()
    if callable(thing) and hasattr(thing, "__code__"):
        return [state_of(cell.cell_contents, seen) for cell in thing.__closure__ or ()]
    if hasattr(thing, "__dict__") and not isinstance(thing, type):
        return {name: state_of(value, seen) for name, value in vars(thing).items()}
    return repr(thing)


def keeps(ground: Playground) -> Iterator[Finding]:
    """What `keep` returns for every tree."""
    for tree in (tree for batch in ground.batches for tree in batch):
        said = True if ground.algorithm.keep is None else ground.algorithm.keep(tree)
        if not isinstance(said, bool | np.bool_):
            yield Finding(Law.KEEPS, f"keep returned {said!r}", "True or False", "See algorithms.rewards.")
            return
