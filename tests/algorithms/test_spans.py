"""What a node holds per token: an array that looks like a tuple, takes little room and cannot be changed."""

import copy
import gc
import pickle
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_toys import build, node
from test_tree import crafted, prompt, trees

from algorithms.tree import COLUMNS, NO_PARENT, Decision, Node, RolloutTree, Span, Status, concatenated

VALUES = {
    "tokens": st.integers(-(2**31) + 1, 2**31 - 1),
    "sampled": st.booleans(),
    "logprobs": st.floats(allow_nan=False, allow_infinity=False, width=32),
}


@st.composite
def columns(draw: st.DrawFn, size: int | None = None) -> tuple[str, tuple[int | float, ...]]:
    """A name, and values of its type; often a run of a single one."""
    name = draw(st.sampled_from(sorted(VALUES)))
    limits = {"max_size": 9} if size is None else {"min_size": size, "max_size": size}
    if draw(st.booleans()):
        return name, (draw(VALUES[name]),) * draw(st.integers(0, 9) if size is None else st.just(size))
    return name, tuple(draw(st.lists(VALUES[name], **limits)))


def held(name: str, values: Sequence[int | float]) -> Span[int]:
    """Returns values as a frozen tree holds them, between others."""
    blank = {column: (0,) * len(values) for column in COLUMNS}
    tree = build(
        prompt(), Node((0,), 0, 2, "action", **blank), Node((0, 0), 1, len(values), "action", **blank | {name: values})
    )
    return getattr(tree.nodes[2], name)


@given(columns(), st.slices(9))
@settings(max_examples=60, deadline=None)
def test_a_span_is_a_sequence_like_the_tuple_it_was_made_of(column, part):
    name, values = column
    span = held(name, values)
    assert isinstance(span, Span)
    assert (span == values, values == span, span == list(values), span != values) == (True, True, True, False)
    assert (list(span), len(span), hash(span), repr(span)) == (list(values), len(values), hash(values), repr(values))
    assert [type(one) for one in span] == [type(one) for one in values], "plain numbers"
    assert [span[i] for i in range(-len(values), len(values))] == [*values, *values]
    assert span[part] == values[part]
    assert isinstance(span[part], Span)
    assert span[part][1:] == values[part][1:]
    assert list(reversed(span)) == list(reversed(values))
    for place in (len(values), -len(values) - 1):
        with pytest.raises(IndexError):
            span[place]


@given(columns(3), columns(3))
@settings(max_examples=60, deadline=None)
def test_spans_are_equal_exactly_if_their_numbers_are(one, other):
    left, right = held(*one), held(*other)
    assert (left == right) == (one[1] == other[1]) == (left == other[1])
    if left == right:
        assert hash(left) == hash(right)
    assert left != left[:2]
    assert left != "abc"


@given(columns())
@settings(max_examples=60, deadline=None)
def test_an_array_of_a_span_is_a_view_that_nobody_can_write_to(column):
    name, values = column
    span = held(name, values)
    array = np.asarray(span)
    assert array.dtype == COLUMNS[name]
    assert array.tolist() == list(values)
    assert np.asarray(span, np.float64).dtype == np.float64
    assert np.shares_memory(array, span.array) or not len(values)
    assert np.shares_memory(array[1:], span[1:].array) or len(values) < 2
    for some in (array, span[1:].array, span.array):
        assert not some.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            some[:] = 0
    again = np.array(span)
    again[:] = 0
    assert list(span) == list(values), "a copy is its own"


def test_the_numbers_of_a_frozen_tree_lie_in_one_object_for_each_column():
    tree = crafted().freeze()
    for name in ("tokens", "logprobs"):
        assert len({id(one.held) for node in tree.nodes if not (one := getattr(node, name)).is_one_value}) == 1, name


def test_a_node_keeps_its_numbers_while_its_tree_grows():
    tree = RolloutTree()
    tree.add(Node((), NO_PARENT, 0, "prompt", (1, 2), (False,) * 2, (0.0,) * 2, (0.0,) * 2))
    first, view = tree.nodes[0].tokens, tree.nodes[0].tokens.array
    for i in range(200):
        tree.add(node((*(0,) * i, 0), i, range(i, i + 9), parent_at=len(tree.nodes[i].tokens)))
    assert (first, view.tolist()) == ((1, 2), [1, 2])
    assert tree.tokens(200) == [1, 2, *(token for i in range(200) for token in range(i, i + 9))]


def test_what_a_caller_does_with_its_own_numbers_does_not_change_a_node():
    ids, nats = np.array([3, 4], np.int32), np.array([-1.0, -2.0], np.float32)
    made = Node((0,), 0, 2, "action", ids, (True, True), nats, nats)
    tree = build(prompt(), made)
    ids[:], nats[:] = 0, 0
    for one in (made, tree.nodes[1]):
        assert (one.tokens, one.logprobs, one.entropies) == ((3, 4), (-1.0, -2.0), (-1.0, -2.0))


def test_spans_have_no_plus():
    """Of arrays it would add up the numbers; and a tuple must not quietly win where a span was meant."""
    one = crafted().nodes[1].tokens
    for added in (lambda: one + one, lambda: one + (1,), lambda: one + [1], lambda: one + np.ones(3)):  # noqa: RUF005
        with pytest.raises(TypeError, match="concatenated"):
            added()
    with pytest.raises(TypeError):
        (1,) + one  # noqa: RUF005
    ids = [9]
    ids += one
    assert ids == [9, *one], "a list is extended, as by anything"
    with pytest.raises(TypeError):
        one[0] = 3
    with pytest.raises(TypeError):
        del one[0]


@given(columns(), st.data())
@settings(max_examples=60, deadline=None)
def test_joined_spans_hold_the_numbers_of_both(column, data):
    name, values = column
    others = tuple(data.draw(st.lists(VALUES[name], max_size=4)))
    whole = concatenated(held(name, values), held(name, others))
    assert whole == values + others
    assert whole.array.dtype == COLUMNS[name]


def test_only_spans_of_one_type_are_joined():
    some = crafted().nodes[1]
    for wrong in ((some.tokens, some.logprobs), (some.tokens, (1, 2)), ()):
        with pytest.raises(TypeError, match="one type"):
            concatenated(*wrong)


@given(columns())
@settings(max_examples=60, deadline=None)
def test_spans_are_copied_and_sent_without_what_lies_beside_them(column):
    span = held(*column)
    assert copy.copy(span) is span
    assert copy.deepcopy(span) is span
    sent = pickle.dumps(span)
    back = pickle.loads(sent)
    assert (back, back.array.dtype, back.array.flags.writeable) == (span, span.array.dtype, False)
    assert len(sent) < 400


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("tokens", (1.5,), "tokens must be a sequence of integers"),
        ("tokens", ("a",), "tokens must be a sequence of integers"),
        ("tokens", (None,), "tokens must be a sequence of integers"),
        ("tokens", ((1, 2),), "tokens must be a sequence of integers"),
        ("tokens", (2**31,), "32 bits"),
        ("tokens", (-(2**40),), "32 bits"),
        ("tokens", (2**70,), "tokens must be a sequence of integers"),
        ("sampled", (0.5,), "sampled must be a sequence of booleans"),
        ("logprobs", ("a",), "logprobs must be a sequence of numbers"),
        ("entropies", (1j,), "entropies must be a sequence of numbers"),
    ],
)
def test_a_node_takes_only_numbers_that_it_can_hold(column, values, said):
    with pytest.raises(ValueError, match=said):
        replace(node((0,), 0, [1]), **{column: values})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1e39])
def test_a_tree_takes_no_number_that_is_none_in_single_precision(number):
    with pytest.raises(ValueError, match="finite"):
        build(prompt(), replace(node((0,), 0, [1]), logprobs=(number,)))


def test_numbers_are_rounded_as_they_come_in():
    made = build(prompt(), replace(node((0,), 0, [1, 2]), logprobs=(-0.1, -0.2), status=Status.ANSWERED))
    assert made.nodes[1].logprobs == tuple(np.array([-0.1, -0.2], np.float32).tolist()) != (-0.1, -0.2)
    assert made.logprobs(1)[2:] == list(made.nodes[1].logprobs)


@given(trees())
@settings(max_examples=60, deadline=None)
def test_a_tree_of_nodes_of_a_tree_is_that_tree(tree: RolloutTree):
    """Freezing and reading back are laws of the tree; here what nodes hold moves from tree to tree, as tuples and as spans."""
    for form in (lambda span: span, tuple, list, np.asarray):
        again = RolloutTree(tree.task, dict(tree.meta))
        for one in tree.nodes:
            again.add(replace(one, **{name: form(getattr(one, name)) for name in COLUMNS}))
        assert again == tree
        assert [hash(one) for one in again.nodes] == [hash(one) for one in tree.nodes]
        assert again.freeze() == tree.freeze()
        assert pickle.loads(pickle.dumps(again)) == copy.deepcopy(again) == tree


@given(trees())
@settings(max_examples=60, deadline=None)
def test_a_column_along_a_path_is_what_its_nodes_hold(tree: RolloutTree):
    for leaf in tree.leaves():
        for name, dtype in COLUMNS.items():
            array = tree.along(leaf, name)
            assert array.tolist() == [
                one for at, stop in tree.path(leaf) for one in tuple(getattr(tree.nodes[at], name))[:stop]
            ]
            assert array.dtype == dtype
            array[:] = 0
    assert tree.freeze() == tree.freeze(), "the array was the caller's own"


def long_path(tokens: int, *, freeze: bool) -> RolloutTree:
    """Returns one path of long actions and observations, in turns."""
    rng, each = np.random.default_rng(1), 250
    tree = build(prompt(), freeze=False)
    for i in range(tokens // each):
        drawn = i % 2 == 0
        nats = {name: rng.standard_normal(each) if drawn else (0.0,) * each for name in ("logprobs", "entropies")}
        kind, at = "action" if drawn else "observation", len(tree.nodes[i].tokens)
        tree.add(Node((0,) * (i + 1), i, at, kind, rng.integers(0, 99, each), (drawn,) * each, **nats))
    return tree.freeze() if freeze else tree


@pytest.mark.parametrize("freeze", [False, True])
def test_a_token_takes_few_bytes(freeze):
    tree = long_path(100_000, freeze=freeze)
    least = 8 * 100_000  # an id each, two numbers for every other one
    runs = 3 * 8 * len(tree.nodes)
    assert least <= tree.nbytes <= least + runs
    assert RolloutTree.from_json(tree.to_json()).nbytes <= least + runs


def test_equal_runs_of_one_value_are_one_object():
    """Where nobody drew a token, a node has three of them, and each would take as much room as 20 tokens."""
    one, other, longer = (node((0, 0), 1, tokens, kind="observation") for tokens in ((5, 6, 7), (8, 9, 7), (5, 6, 7, 8)))
    for name in ("sampled", "logprobs", "entropies"):
        assert getattr(one, name) is getattr(other, name)
        assert getattr(one, name) != getattr(longer, name)


def forking_tree(seed: int, *, freeze: bool) -> RolloutTree:
    """Returns 16 paths of 2,000 tokens in nodes of 100, half of them drawn, with a decision after every result."""
    rng, each = np.random.default_rng(seed), 100
    tree = build(prompt(), freeze=False)
    for root in range(16):
        parent = 0
        for i in range(20):
            drawn = i % 2 == 0
            nats = {name: rng.standard_normal(each).tolist() if drawn else [0.0] * each for name in ("logprobs", "entropies")}
            kind, at = "action" if drawn else "observation", len(tree.nodes[parent].tokens)
            ids, key = rng.integers(0, 150_000, each).tolist(), (root,) + (0,) * i
            said = {"tool": "search", "tool_status": "ok", "seed": int(rng.integers(1 << 40))} if drawn else {}
            parent = tree.add(Node(key, parent, at, kind, ids, [drawn] * each, **nats, **said))
            if not drawn:
                tree.decide(parent, Decision(*rng.random(3).tolist(), 1, 0))
    return tree.freeze() if freeze else tree


@pytest.mark.parametrize("freeze", [False, True])
def test_a_token_of_a_forking_tree_takes_at_most_sixteen_bytes_with_all_objects(freeze):
    forking_tree(0, freeze=freeze)  # what is made once
    tracemalloc.start()
    try:
        kept = [forking_tree(seed, freeze=freeze) for seed in range(8)]
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= 16 * sum(len(one.tokens) for tree in kept for one in tree.nodes)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda tree: pickle.loads(pickle.dumps(tree))], ids=["copy", "pickle"])
def test_a_copy_has_its_numbers_once(copied):
    tree = long_path(100_000, freeze=True)
    twin = copied(tree)
    assert twin == tree
    assert twin.nbytes == tree.nbytes
    assert len(pickle.dumps(tree)) < 1.5 * tree.nbytes, "no number is sent twice"
