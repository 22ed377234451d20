"""Trees whose credit can be worked out by hand, random ones, and the scores that go with them."""

import math
import random
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from rollout_toys import build, node

from algorithms.advantages import Array, Credit, Scores
from algorithms.losses import Loss, LossInputs
from algorithms.packing.flat import rows_of
from algorithms.tree import NO_PARENT, RolloutTree, Status

E, DONE = "observation", Status.ANSWERED


def crafted(rewards: tuple[float, ...] = (1.0, 0.0, 2.0), statuses: tuple[Status, ...] = (DONE,) * 3) -> RolloutTree:
    """One call shared by two leaves, and one leaf of its own.

    prompt [1] ─ 0: act [2 3] ─ obs [4] ─ act [5 6]   leaf a
                                        └ act [7]     leaf b
               └ 1: act [8 9 10]                      leaf c
    """
    return build(
        node((), NO_PARENT, [1]),
        node((0,), 0, [2, 3], tool="count", reward=0.0),
        node((0, 0), 1, [4], kind=E),
        node((0, 0, 0), 2, [5, 6], status=statuses[0], reward=rewards[0]),
        node((0, 0, 1), 2, [7], status=statuses[1], reward=rewards[1]),
        node((1,), 0, [8, 9, 10], status=statuses[2], reward=rewards[2]),
    )


def two_step_episodes() -> RolloutTree:
    """Three episodes: a and b pass through the state "s", a twice; c is somewhere else."""
    tree = build(node((), NO_PARENT, [1]))
    tree.frozen = False
    for i, (anchors, last) in enumerate(((("s", "s"), 1.0), (("s", "t"), 0.0), ((None, "u"), 2.0))):
        action = tree.add(node((i,), 0, [2], parent_at=1, anchor=anchors[0], reward=0.25, tool="count"))
        after = tree.add(node((i, 0), action, [3], kind=E, parent_at=1))
        tree.add(node((i, 0, 0), after, [4], parent_at=1, anchor=anchors[1], status=DONE, reward=last))
    return tree.freeze()


def flat_group(reward: np.ndarray) -> RolloutTree:
    """Leaves that share nothing but the prompt."""
    ends = [node((i,), 0, [3 + i, 4], status=DONE, reward=float(r)) for i, r in enumerate(reward)]
    return build(node((), NO_PARENT, [1, 2]), *ends)


@st.composite
def grown(draw: st.DrawFn) -> RolloutTree:
    """A random frozen tree: actions and observations alternate, forks lie after both the prompt and observations, and
    inside actions. A node's `seed` is its identity.
    """
    tree = RolloutTree()
    tree.add(node((), NO_PARENT, [1, 2]))
    for number in range(1, draw(st.integers(2, 13))):
        parent = draw(st.integers(0, len(tree.nodes) - 1))
        above = tree.nodes[parent]
        inside = above.kind == "action" and len(above.tokens) > 1 and draw(st.booleans())
        at = draw(st.integers(1, len(above.tokens) - 1)) if inside else len(above.tokens)
        kind = "action" if inside or above.kind != "action" else E
        if kind == E and any(n.parent == parent and n.kind == E for n in tree.nodes):
            continue
        ordinal = sum(n.parent == parent for n in tree.nodes)
        tokens = draw(st.lists(st.integers(0, 30), min_size=1, max_size=3))
        anchor = draw(st.sampled_from([None, "s", "t"]))
        tree.add(node((*above.key, ordinal), parent, tokens, kind=kind, parent_at=at, anchor=anchor, seed=number))
    inner = {n.parent for n in tree.nodes if n.parent_at == len(tree.nodes[max(0, n.parent)].tokens)}
    for i, n in enumerate(tree.nodes):
        changes = {"entropies": tuple(abs(math.sin(i + j)) * s for j, s in enumerate(n.sampled))}
        if i not in inner:
            end = draw(st.sampled_from([DONE, DONE, DONE, Status.TRUNCATED, Status.POLICY_FAULT]))
            changes |= {"status": end, "reward": draw(st.integers(-2, 2)) / 2}
        tree.nodes[i] = replace(n, **changes)
    return tree.freeze()


def scores_for(trees: list[RolloutTree]) -> Scores:
    """Reference log-probabilities and values that depend on the token and its node, not on where the node stands."""

    def per_leaf(tree: RolloutTree, leaf: int, phase: float) -> Array:
        nodes = [(tree.nodes[n], stop) for n, stop in tree.path(leaf)]
        return np.array([math.sin(phase + n.seed + t) for n, stop in nodes for t in n.tokens[:stop]])

    reference, values = (
        tuple(tuple(per_leaf(tree, leaf, phase) for leaf in tree.leaves()) for tree in trees) for phase in (0.0, 1.0)
    )
    return Scores(reference=tuple(tuple(r - 2.0 for r in leaves) for leaves in reference), values=values)


def reordered(tree: RolloutTree, rng: random.Random) -> RolloutTree:
    """The same frozen tree with siblings in another order."""
    children: dict[int, list[int]] = {}
    for i, n in enumerate(tree.nodes):
        children.setdefault(n.parent, []).append(i)
    keys: dict[int, tuple[int, ...]] = {0: ()}
    for parent, below in children.items():
        if parent != NO_PARENT:
            for ordinal, i in enumerate(rng.sample(below, len(below))):
                keys[i] = (*keys[parent], ordinal)
    nodes = [replace(n, key=keys[i]) for i, n in enumerate(tree.nodes)]
    return RolloutTree(tree.task, dict(tree.meta), nodes).freeze()


def by_identity(tree: RolloutTree, values: tuple[Array, ...]) -> dict[tuple[int, ...], list[float]]:
    """Returns a leaf's row under the identities of the nodes on its path."""
    paths = [tuple(tree.nodes[n].seed for n, _ in tree.path(leaf)) for leaf in tree.leaves()]
    return {path: row.round(9).tolist() for path, row in zip(paths, values, strict=True)}


def comb(forks: int) -> RolloutTree:
    """A chain of calls; after each result one path ends and another goes on."""
    tree = RolloutTree()
    at = tree.add(node((), NO_PARENT, [1]))
    for depth in range(forks):
        key = tree.nodes[at].key
        action = tree.add(node((*key, 0), at, [2], parent_at=1, anchor="s"))
        after = tree.add(node((*key, 0, 0), action, [3], kind=E, parent_at=1))
        tree.add(node((*key, 1), at, [4], status=DONE, reward=float(depth % 2), parent_at=1))
        at = after
    tree.add(node((*tree.nodes[at].key, 0), at, [5], status=DONE, reward=1.0, parent_at=1))
    return tree.freeze()


def rows(values: tuple[np.ndarray, ...]) -> list[list[float]]:
    return [row.round(4).tolist() for row in values]


def gradient(tree: RolloutTree, credit: Credit, loss: Loss, drift: float = 0.0) -> dict[int, float]:
    """Returns d(token mean of a loss)/d(logp) of every token of the tree, the copies of a shared token added up.

    Args:
        tree: frozen.
        credit: of the tree alone.
        loss: per token.
        drift: how far the policy has moved since it sampled, nats per token, the same for every copy of a token.
    """
    import torch

    slopes: dict[int, float] = {}
    total = sum(float(row.weight[1:].sum()) for row in rows_of([tree], credit))
    places = {place: i for i, place in enumerate((n, j) for n, one in enumerate(tree.nodes) for j in range(len(one.tokens)))}
    for leaf, row in zip(tree.leaves(), rows_of([tree], credit), strict=True):
        where = [places[n, j] for n, stop in tree.path(leaf) for j in range(stop)]
        moved = row.behaviour_logp + drift * np.sin(np.array(where))
        logp = torch.tensor(moved[None]).requires_grad_()
        old, advantage, weight = (torch.tensor(x[None]) for x in (row.behaviour_logp, row.advantage, row.weight))
        (loss(LossInputs(logp, old, advantage, weight)).loss_BT * weight / max(total, 1e-9)).sum().backward()
        assert logp.grad is not None
        for place, slope in zip(where, logp.grad[0].tolist(), strict=True):
            slopes[place] = slopes.get(place, 0.0) + slope
    return slopes
