"""Laws about credit: who gets it, and what it may depend on."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from arpo_envs.testing import Finding, SkippedLaw

from ..advantages import COMPARES, DISCOUNT, Array, Credit, rewards
from ..advantages.paths import column
from ..advantages.rounding import are_equal
from ..rewards import with_terms
from ..tree import NO_PARENT, RolloutTree, Status
from .laws import AlgorithmLaw as Law
from .playground import Playground, with_rewards

_CLOSE = 1e-6
"""Sums in a different order differ by less."""

_EQUALS = ((0.5, 0.5), (0.3, 0.1 + 0.2), (123_456_789.1, 123_456_789.1), (3e9, 3e9 * (1.0 + 2.0**-52)))
"""Rewards that are equal up to rounding."""

_FILL = "`along_paths`, `spread` and `sampled_weights` of algorithms.advantages give the right shapes."


def credit(ground: Playground) -> Iterator[Finding]:
    """Shapes and finite numbers."""
    for trees in ground.batches:
        given = ground.credit(trees)
        if not isinstance(given, Credit):
            yield Finding(Law.CREDIT, f"the estimator returned {given!r}", "a Credit", "See algorithms.advantages.Credit.")
            return
        streams = {"advantages": given.advantages, "weights": given.weights, "returns": given.returns}
        for name, rows in ((name, rows) for name, rows in streams.items() if rows is not None):
            yield from _shapes(name, rows, trees)
        if (given.returns is not None) != ("values" in ground.algorithm.needs):
            happened = f"returns are {'given' if given.returns is not None else 'None'}, needs is {set(ground.algorithm.needs)}"
            hint = "Credit.returns are the value head's targets: both, or neither."
            yield Finding(Law.CREDIT, happened, "returns where 'values' are needed", hint)


def _shapes(name: str, rows: Sequence[Sequence[Array]], trees: Sequence[RolloutTree]) -> Iterator[Finding]:
    if len(rows) != len(trees):
        yield Finding(Law.CREDIT, f"{name} of {len(rows)} trees", f"of {len(trees)}", "[tree][leaf] -> [T]")
        return
    for tree, of_tree in zip(trees, rows, strict=True):
        wanted = [len(tree.tokens(leaf)) for leaf in tree.leaves()]
        lengths = [len(row) for row in of_tree]
        if lengths != wanted:
            yield Finding(Law.CREDIT, f"{name} have the lengths {lengths[:8]}", f"{wanted[:8]}, as the paths", _FILL)
        elif not all(np.isfinite(row).all() for row in of_tree):
            hint = "Is something divided by a deviation, or a count, of 0?"
            yield Finding(Law.CREDIT, f"{name} are not all finite", "finite numbers", hint)


def weights(ground: Playground) -> Iterator[Finding]:
    """Weights at least 0, and above it only where they may be."""
    for trees in ([_failed(tree) for tree in batch] for batch in ground.batches):
        given = ground.credit(trees)
        for tree, rows in zip(trees, given.weights, strict=True):
            _, valid_L = rewards(tree)
            for leaf, valid, weight_T in zip(tree.leaves(), valid_L, rows, strict=True):
                if (weight_T < 0).any():
                    yield Finding(Law.WEIGHTS, "a weight is below 0", "0 or more", "Signs belong in the advantages.")
                if (weight_T[column(tree, leaf, "sampled") == 0] > 0).any():
                    hint = "Multiply by what was sampled, as `sampled_weights` does: the prompt and tool results were not."
                    yield Finding(Law.WEIGHTS, "a token that the policy did not sample has weight", "0", hint)
                if not valid and weight_T.any():
                    happened = f"a path that ended as {tree.nodes[leaf].status} has weights"
                    yield Finding(Law.WEIGHTS, happened, "0", "`rewards` says which leaves are valid.")


def failed(ground: Playground) -> Iterator[Finding]:
    """A path that failed in a tool earns a million, or nothing."""
    for batch in ground.batches:
        plain = [_failed(tree) for tree in batch]
        rich = [with_rewards(tree, {leaf: 1e6 for leaf in tree.leaves() if not _is_models(tree, leaf)}) for tree in plain]
        before, after = ground.credit(plain), ground.credit(rich)
        for rows in zip(before.advantages, after.advantages, before.weights, strict=True):
            for old_T, new_T, weight_T in zip(*rows, strict=True):
                if np.abs(old_T - new_T)[weight_T > 0].max(initial=0.0) > _CLOSE:
                    hint = "Leave invalid leaves out of means and deviations; `rewards` says which are valid."
                    happened = "the advantages of other paths changed when a failed path earned more"
                    yield Finding(Law.FAILED, happened, "the same advantages", hint)
                    return


def _failed(tree: RolloutTree) -> RolloutTree:
    """Returns a tree whose last path ended in a tool fault, if it has others."""
    leaves = tree.leaves()
    changed = replace(tree, nodes=list(tree.nodes))
    if len(leaves) > 1:
        changed.nodes[leaves[-1]] = replace(tree.nodes[leaves[-1]], status=Status.TOOL_FAULT, reward=0.0)
    return changed


def _is_models(tree: RolloutTree, leaf: int) -> bool:
    status = tree.nodes[leaf].status
    return status is not None and status.is_model


def order(ground: Playground) -> Iterator[Finding]:
    """The same trees, with siblings and trees in reverse order."""
    for batch in ground.batches:
        trees = [replace(tree, nodes=[replace(node, seed=i) for i, node in enumerate(tree.nodes)]) for tree in batch]
        wanted = [_by_identity(tree, rows) for tree, rows in zip(trees, ground.credit(trees).advantages, strict=True)]
        turned = [_turned(tree) for tree in reversed(trees)]
        seen = [_by_identity(tree, rows) for tree, rows in zip(turned, ground.credit(turned).advantages, strict=True)][::-1]
        for one, other in zip(wanted, seen, strict=True):
            if any(np.abs(one[leaf] - other[leaf]).max(initial=0.0) > _CLOSE for leaf in one):
                hint = "Look at rewards and places in the tree, never at the position in a list."
                happened = "advantages changed when siblings and trees came in a different order"
                yield Finding(Law.ORDER, happened, "the same advantages for the same paths", hint)
                return


def _by_identity(tree: RolloutTree, rows: Sequence[Array]) -> dict[int, Array]:
    return {tree.nodes[leaf].seed: row for leaf, row in zip(tree.leaves(), rows, strict=True)}


def _turned(tree: RolloutTree) -> RolloutTree:
    """Returns a tree with all siblings in reverse order."""
    children: dict[int, list[int]] = {}
    for index, node in enumerate(tree.nodes):
        children.setdefault(node.parent, []).append(index)
    keys: dict[int, tuple[int, ...]] = {0: ()}
    for parent, below in children.items():
        if parent != NO_PARENT:
            keys |= {index: (*keys[parent], ordinal) for ordinal, index in enumerate(reversed(below))}
    nodes = [replace(node, key=keys[index]) for index, node in enumerate(tree.nodes)]
    return RolloutTree(tree.task, dict(tree.meta), nodes).freeze()


def equal(ground: Playground) -> Iterator[Finding]:
    """Every path of the batch earns the same, as far as rewards alone are compared."""
    if not COMPARES.of(ground.algorithm.advantages) or "values" in ground.algorithm.needs:
        raise SkippedLaw("it does not compare the rollouts of a prompt with each other")
    if DISCOUNT.of(ground.algorithm.advantages) != 1.0:
        raise SkippedLaw("it discounts, so equal rewards are not equal from every token")
    for batch, (one, other) in product(ground.batches, _EQUALS):
        trees = [with_rewards(tree, {leaf: (one, other)[i % 2] for i, leaf in enumerate(tree.leaves())}) for tree in batch]
        if any(not are_equal(rewards(tree)[0]) for tree in with_terms(trees, ground.algorithm.reward_terms)):
            raise SkippedLaw("its reward terms make equal rewards unequal")
        given = ground.credit(trees)
        worst = max(_largest(given), default=0.0)
        if worst > _CLOSE:
            what = f"{one:g}" if one == other else f"{one!r} or {other!r}, which is the same up to rounding"
            happened = f"all paths earned {what}, and there are advantages of {worst:.3g}"
            hint = "Subtract a baseline over the group; is rounding divided by a deviation of 0? See advantages.rounding."
            yield Finding(Law.EQUAL, happened, "0 wherever a token counts", hint)
            return


def _largest(given: Credit) -> Iterator[float]:
    for advantages, weights in zip(given.advantages, given.weights, strict=True):
        for advantage_T, weight_T in zip(advantages, weights, strict=True):
            yield float(np.abs(advantage_T * weight_T).max(initial=0.0))


def more(ground: Playground) -> Iterator[Finding]:
    """The worst path of a batch becomes its best."""
    for batch in ground.batches:
        paths = [(t, leaf) for t, tree in enumerate(batch) for leaf in tree.leaves() if _is_models(tree, leaf)]
        t, leaf = min(paths, key=lambda path: batch[path[0]].total_reward(path[1]))
        best = max(batch[i].total_reward(one) for i, one in paths)
        raised = [with_rewards(tree, {leaf: best + 1.0}) if i == t else tree for i, tree in enumerate(batch)]
        place = batch[t].leaves().index(leaf)
        before, after = (_total(ground.credit(trees), t, place) for trees in (batch, raised))
        if not after > before:
            happened = (
                f"the worst path of a batch earned {best + 1.0:g} instead, and its credit went from {before:.3g} to {after:.3g}"
            )
            hint = "Is the sign right, and does the estimator look at RolloutTree.total_reward?"
            yield Finding(Law.MORE, happened, "more credit", hint)
            return


def _total(given: Credit, tree: int, leaf: int) -> float:
    return float((given.advantages[tree][leaf] * given.weights[tree][leaf]).sum())
