"""The rollout tree: what it refuses, what it counts, and that freezing changes no trajectory."""

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_toys import build, node, shuffled

from algorithms.tracking.trees import read_trees, write_trees
from algorithms.tree import NO_PARENT, Node, RolloutTree, Status, ToolCalls, total_tool_calls

A, E = "action", "observation"


def prompt() -> Node:
    return node((), NO_PARENT, [1, 2])


def crafted(*, freeze: bool = False) -> RolloutTree:
    """Two roots; root 0 calls, then answers (key 0,0,0) beside a fork (0,0,1); a third path leaves
    root 0's call after its first token (key 0,1), calls and answers; root 1 answers at once.

    prompt [1 2]
    ├─ 0: act [10 11 12] tool, paid .5
    │  ├─ 0,0: obs [20]
    │  │  ├─ 0,0,0: act [30 31] answered, 1
    │  │  └─ 0,0,1: act [32] truncated, -1
    │  └─ 0,1 (at 1): act [13] tool, paid .25
    │     └─ 0,1,0: obs [21 22]
    │        └─ 0,1,0,0: act [] context full, -2
    └─ 1: act [14] answered, 3
    """
    return build(
        prompt(),
        node((0,), 0, [10, 11, 12], tool="count", reward=0.5, origin="root", text="first"),
        node((1,), 0, [14], status=Status.ANSWERED, reward=3.0, success=1.0, origin="root"),
        node((0, 0), 1, [20], kind=E),
        node((0, 0, 0), 3, [30, 31], status=Status.ANSWERED, reward=1.0, success=1.0),
        node((0, 1), 1, [13], parent_at=1, tool="count", reward=0.25, origin="branch", replayed=2),
        node((0, 0, 1), 3, [32], status=Status.TRUNCATED, reward=-1.0, origin="branch", replayed=1),
        node((0, 1, 0), 5, [21, 22], kind=E),
        node((0, 1, 0, 0), 7, [], status=Status.CONTEXT_FULL, reward=-2.0),
        freeze=freeze,
    )


# --- golden values ---------------------------------------------------------------------------------------


def test_golden_values_of_the_crafted_tree() -> None:
    tree = crafted()
    assert tree.roots() == [1, 2]
    assert tree.leaves() == [4, 6, 8, 2]
    assert tree.path(4) == [(0, 2), (1, 3), (3, 1), (4, 2)]
    assert tree.path(8) == [(0, 2), (1, 1), (5, 1), (7, 2), (8, 0)]
    assert tree.tokens(4) == [1, 2, 10, 11, 12, 20, 30, 31]
    assert tree.tokens(6) == [1, 2, 10, 11, 12, 20, 32]
    assert tree.tokens(8) == [1, 2, 10, 13, 21, 22]
    assert tree.tokens(2) == [1, 2, 14]
    assert [tree.tokens_before(0, at) for at in range(3)] == [[], [1], [1, 2]]
    assert tree.tokens_before(4, 1) == [1, 2, 10, 11, 12, 20, 30]
    assert tree.tokens_before(5, 0) == [1, 2, 10], "of an action that was forked inside, what the fork kept"
    assert tree.tokens_before(8, 0) == tree.tokens(8)
    assert [tree.total_reward(leaf) for leaf in tree.leaves()] == [1.5, -0.5, -1.75, 3.0]


def test_tool_calls_of_the_crafted_tree() -> None:
    # two calls ran; paths 4 and 6 share the first one; path 8 left it before it ran
    assert crafted().tool_calls() == ToolCalls(executed=2, inherited=1, replayed=3)
    assert total_tool_calls([crafted(), crafted()]) == (4, 2, 6)


def test_depth_counts_only_calls_that_lie_on_the_path() -> None:
    tree = crafted()
    assert [tree.depth(i) for i in range(9)] == [0, 0, 0, 1, 1, 0, 1, 1, 1]
    frozen = tree.freeze()
    forks = [i for i, n in enumerate(frozen.nodes) if n.origin == "branch"]
    assert sorted(frozen.depth(i) for i in forks) == [0, 1]


def test_frozen_form_of_the_crafted_tree() -> None:
    frozen = crafted(freeze=True)
    assert [(n.key, n.tokens) for n in frozen.nodes] == [
        ((), (1, 2)),
        ((0,), (10,)),
        ((0, 0), (11, 12)),
        ((0, 0, 0), (20,)),
        ((0, 0, 0, 0), (30, 31)),
        ((0, 0, 0, 1), (32,)),
        ((0, 1), (13,)),
        ((0, 1, 0), (21, 22)),
        ((0, 1, 0, 0), ()),
        ((1,), (14,)),
    ]
    head, end = frozen.nodes[1], frozen.nodes[2]
    assert (head.tool, head.reward, head.text, head.origin) == ("", None, "", "root")
    assert (end.tool, end.reward, end.text, end.origin) == ("count", 0.5, "first", "")


def test_an_empty_tree_freezes_to_an_empty_tree() -> None:
    frozen = RolloutTree("t", {"a": 1}).freeze()
    assert (frozen.nodes, frozen.task, frozen.meta, frozen.frozen) == ([], "t", {"a": 1}, True)


# --- refusals --------------------------------------------------------------------------------------------


def test_add_refuses_what_does_not_fit() -> None:
    tree = RolloutTree()
    with pytest.raises(ValueError, match="no other, is the prompt"):
        tree.add(node((0,), 0, [1], parent_at=1))
    tree.add(prompt())
    with pytest.raises(ValueError, match="no other, is the prompt"):
        tree.add(prompt())
    with pytest.raises(ValueError, match="equally long"):
        tree.add(replace(node((0,), 0, [1], parent_at=2), logprobs=()))
    with pytest.raises(ValueError, match="no parent 5"):
        tree.add(node((0,), 5, [1], parent_at=2))
    for offset in (0, -1, 3):
        with pytest.raises(ValueError, match="outside its parent's 2 tokens"):
            tree.add(Node((0,), 0, offset, "action"))
    assert len(tree.nodes) == 1, "a refused node leaves no trace"
    assert tree.add(node((0,), 0, [1], parent_at=1)) == 1
    with pytest.raises(ValueError, match="frozen"):
        tree.freeze().add(node((1,), 0, [1], parent_at=2))


def test_a_child_of_an_empty_node_hangs_at_zero() -> None:
    tree = build(prompt(), node((0,), 0, [], kind=E), node((0, 0), 1, [5], status=Status.ANSWERED))
    assert tree.tokens(2) == [1, 2, 5]


# --- laws of freezing ------------------------------------------------------------------------------------

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SINGLES = st.floats(allow_nan=False, allow_infinity=False, width=32)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@st.composite
def trees(draw: st.DrawFn) -> RolloutTree:
    """Any tree: forks at ends and inside nodes of every kind, keys with gaps, empty nodes."""
    tree = RolloutTree("any", {"seed": draw(st.integers(0, 9))})
    ordinals: dict[int, int] = {}
    for i in range(draw(st.integers(1, 14))):
        tokens = draw(st.lists(st.integers(0, 300), max_size=4))
        kind = draw(st.sampled_from([A, E]))
        fields = {
            "logprobs": tuple(draw(SINGLES) for _ in tokens),
            "sampled": tuple(draw(st.booleans()) for _ in tokens),
            "text": draw(TEXTS),
            "tool": draw(st.sampled_from(["", "count"])),
            "replayed": draw(st.integers(0, 2)),
            "reward": draw(st.one_of(st.none(), st.integers(-8, 8).map(lambda n: n / 4))),  # sums are exact
        }
        if i == 0:
            tree.add(node((), NO_PARENT, tokens, **fields))
            continue
        parent = draw(st.integers(0, i - 1))
        length = len(tree.nodes[parent].tokens)
        at = draw(st.integers(min(1, length), length))
        ordinals[parent] = ordinals.get(parent, -1) + draw(st.integers(1, 3))
        key = (*tree.nodes[parent].key, ordinals[parent])
        tree.add(replace(node(key, parent, tokens, kind=kind, **fields), parent_at=at))
    inner = {n.parent for n in tree.nodes}
    for i, n in enumerate(tree.nodes):
        if i not in inner:
            tree.nodes[i] = replace(n, status=draw(st.sampled_from(list(Status))), success=draw(st.one_of(st.none(), FLOATS)))
    return tree


@given(trees(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_freezing_does_not_depend_on_arrival(tree: RolloutTree, rng: random.Random) -> None:
    assert tree.freeze().to_json() == shuffled(tree, rng).freeze().to_json()


@given(trees())
@settings(max_examples=60, deadline=None)
def test_freezing_changes_no_trajectory(tree: RolloutTree) -> None:
    frozen = tree.freeze()

    def trajectories(t: RolloutTree) -> list[object]:
        pieces = []
        for leaf in t.leaves():
            last = t.nodes[leaf]
            per_token = [
                (n.tokens[i], n.sampled[i], n.logprobs[i])
                for at, stop in t.path(leaf)
                for n in [t.nodes[at]]
                for i in range(stop)
            ]
            pieces.append((per_token, t.total_reward(leaf), last.status, last.success, t.depth(leaf)))
        return pieces

    # leaves keep their order unless one that forked inside a node comes before that node's own end
    assert sorted(map(repr, trajectories(tree))) == sorted(map(repr, trajectories(frozen)))
    assert tree.tool_calls() == frozen.tool_calls()


@given(trees())
@settings(max_examples=60, deadline=None)
def test_frozen_trees_are_dense_depth_first_and_forked_at_ends_only(tree: RolloutTree) -> None:
    frozen = tree.freeze()
    assert [n.key for n in frozen.nodes] == sorted(n.key for n in frozen.nodes)
    for index, n in enumerate(frozen.nodes):
        if n.parent != NO_PARENT:
            assert n.parent_at == len(frozen.nodes[n.parent].tokens)
        ordinals = [c.key[-1] for c in frozen.nodes if c.parent == index]
        assert ordinals == list(range(len(ordinals)))
    assert frozen.freeze().to_json() == frozen.to_json()


# --- reading back ----------------------------------------------------------------------------------------


@given(st.lists(trees(), max_size=3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_written_tree_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory, some: list[RolloutTree], freeze: bool
) -> None:
    some = [tree.freeze() if freeze else tree for tree in some]
    path = tmp_path_factory.mktemp("trees") / "trees.jsonl"
    write_trees(path, some)
    assert list(read_trees(path)) == some


def test_floats_unicode_and_line_separators_survive(tmp_path: Path) -> None:
    awkward = tuple(np.array([math.pi, 1e-40, -0.0, 0.1 + 0.2, 2.0**-149], np.float32).tolist())
    text = "\u2028\x85\r\n\t é 你好 🙂 </result>\x00"
    tree = build(prompt(), replace(node((0,), 0, range(5), text=text, status=Status.ANSWERED), logprobs=awkward), freeze=False)
    path = tmp_path / "t.jsonl"
    write_trees(path, [tree])
    write_trees(path, [tree.freeze()])
    back, frozen = read_trees(path)
    assert back == tree
    assert frozen == tree.freeze()
    assert [x.hex() for x in back.nodes[1].logprobs] == [x.hex() for x in awkward]
    assert back.nodes[1].text == text
    assert isinstance(back.nodes[1].status, Status)


def test_statuses_that_say_something_about_the_model() -> None:
    assert {s for s in Status if s.is_model} == {Status.ANSWERED, Status.TRUNCATED, Status.CONTEXT_FULL, Status.STALLED}
