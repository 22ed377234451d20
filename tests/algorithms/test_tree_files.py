"""Trees on disk: compressed one by one, found at once, and whole whatever a kill left at the end."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from golden import readable
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_toys import build, node
from test_spans import long_path
from test_tree import crafted, prompt, trees

from algorithms.tracking.trees import (
    TreeFile,
    compress_trees,
    count_trees,
    forget_trees_before,
    keep_trees_before,
    read_tree,
    read_trees,
    write_trees,
)
from algorithms.tree import RolloutTree, Status
from arpo_envs import ConfigError

INDEXES = {
    "its own": lambda index, size: index,
    "missing": lambda index, size: None,
    "empty": lambda index, size: b"",
    "without its end": lambda index, size: index[:-12],
    "too long": lambda index, size: index + (size + 50).to_bytes(8, "little"),
    "zeros at its end": lambda index, size: index[:-8] + bytes(16),
    "of another file": lambda index, size: b"".join((int.from_bytes(index[:8], "little") + 9 * i).to_bytes(8, "little")
                                                    for i in range(1, 4)),
    "of the end of another file": lambda index, size: index[:8] + (size - 3).to_bytes(8, "little"),
    "noise": lambda index, size: b"\x93" * 37,
}  # fmt: skip


def tree_of(step: int, text: str = "") -> RolloutTree:
    tree = build(prompt(), node((0,), 0, range(step + 3), text=text or f"of {step}", status=Status.ANSWERED))
    tree.meta["step"] = step
    return tree


def index_of(path: Path) -> Path:
    return path.with_name(path.name + ".index")


def written(folder: Path, steps: range | list[int] = range(5)) -> tuple[Path, list[RolloutTree]]:
    path, some = folder / "trees.jsonl.zst", [tree_of(step) for step in steps]
    for tree in some:
        write_trees(path, [tree])
    return path, some


def assert_holds(path: Path, some: list[RolloutTree]) -> None:
    """A file holds some trees, whichever way one asks."""
    assert list(read_trees(path)) == some
    assert count_trees(path) == len(some)
    for number in range(-len(some), len(some)):
        assert read_tree(path, number) == some[number]
    for number in (len(some), -len(some) - 1):
        with pytest.raises(IndexError):
            read_tree(path, number)


def ends(path: Path) -> list[int]:
    index = index_of(path).read_bytes()
    return [int.from_bytes(index[at : at + 8], "little") for at in range(0, len(index), 8)]


# --- reading back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trees.jsonl", "trees.jsonl.zst"])
@given(some=st.lists(trees(), max_size=4), parts=st.integers(0, 4))
@settings(max_examples=20, deadline=None)
def test_written_trees_read_back_equal(tmp_path_factory, name, some, parts):
    path = tmp_path_factory.mktemp("trees") / name
    write_trees(path, some[:parts])
    write_trees(path, iter(some[parts:]))
    assert_holds(path, some)


def test_a_file_of_trees_whose_numbers_are_text_is_read(tmp_path):
    path, some = tmp_path / "trees.jsonl", [tree_of(0), crafted(), crafted(freeze=True)]
    lines = "".join(readable(tree) + "\n" for tree in some)
    assert '"tokens":[1,2]' in lines
    path.write_text(lines, encoding="utf-8")
    assert_holds(path, some)
    path.write_bytes(lines.encode() + '{"task":"ü'.encode()[:-1])
    assert_holds(path, some)


def test_what_is_compressed_is_known_by_itself_and_no_bigger_than_it_must_be(tmp_path):
    path, some = tmp_path / "trees.jsonl.zst", [long_path(20_000, freeze=True)]
    write_trees(path, some)
    assert path.stat().st_size <= 12 * 20_000
    shutil.copy(path, tmp_path / "renamed")
    assert_holds(tmp_path / "renamed", some)


def test_one_tree_is_read_without_the_others(tmp_path):
    path, some = written(tmp_path)
    middle = slice(ends(path)[0] + 4, ends(path)[1])
    damaged = bytearray(path.read_bytes())
    damaged[middle] = bytes(len(damaged[middle]))
    path.write_bytes(damaged)
    assert [read_tree(path, number) for number in (0, 2, 3, 4, -1)] == [some[i] for i in (0, 2, 3, 4, 4)]
    with pytest.raises(ValueError, match="damage"):
        read_tree(path, 1)
    index_of(path).unlink()
    for ask in (count_trees, lambda path: list(read_trees(path)), lambda path: write_trees(path, some)):
        with pytest.raises(ValueError, match="whole trees after it"):
            ask(path)
    assert path.read_bytes() == damaged, "nobody made it worse"


# --- the index -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trees.jsonl.zst", "trees.jsonl"])
def test_a_file_that_grows_is_looked_at_again(tmp_path, name):
    path = tmp_path / name
    write_trees(path, [tree_of(0)])
    file = TreeFile(path)
    assert (len(file), file.look()) == (1, True)
    write_trees(path, [tree_of(1), tree_of(2)])
    whole = path.read_bytes()
    with path.open("ab") as torn:
        torn.write(whole[:9])
    assert (len(file), file.look(), len(file)) == (1, True, 3)
    assert [file.read(number) for number in (0, 1, -1)] == [tree_of(0), tree_of(1), tree_of(2)]
    path.write_bytes(b"")
    assert (file.look(), len(file)) == (False, 0)
    write_trees(path, [tree_of(5)])
    assert (file.look(), file.read(0)) == (True, tree_of(5))
    other = tmp_path / f"other-{name}"
    write_trees(other, [tree_of(step) for step in range(3)])
    other.replace(path)
    assert (file.look(), len(file)) == (False, 3)


def test_a_file_of_lines_is_walked_through_once(tmp_path, monkeypatch):
    path = tmp_path / "trees.jsonl"
    write_trees(path, [tree_of(step) for step in range(20)])
    file = TreeFile(path)
    monkeypatch.setattr("algorithms.tracking.trees._line_ends", None)
    assert [file.read(number).meta["step"] for number in range(20)] == list(range(20))


@pytest.mark.parametrize("state", INDEXES)
def test_the_index_is_not_needed_and_is_made_again(state, tmp_path):
    path, some = written(tmp_path)
    index, right = index_of(path), index_of(path).read_bytes()
    assert len(right) == 8 * len(some)
    wrong = INDEXES[state](right, path.stat().st_size)
    index.unlink() if wrong is None else index.write_bytes(wrong)
    assert_holds(path, some)
    write_trees(path, [tree_of(9)])
    assert_holds(path, [*some, tree_of(9)])
    assert index.read_bytes()[:-8] == right
    assert ends(path)[-1] == path.stat().st_size


def test_who_appends_reads_neither_the_trees_nor_their_index(tmp_path, monkeypatch):
    path, some = written(tmp_path)
    monkeypatch.setattr("algorithms.tracking.trees._ends", None)
    write_trees(path, [tree_of(9)])
    monkeypatch.undo()
    assert_holds(path, [*some, tree_of(9)])


# --- what a kill leaves ----------------------------------------------------------------------------------


def test_a_file_that_was_cut_anywhere_holds_the_whole_trees_before(tmp_path):
    path, some = written(tmp_path, range(3))
    whole, places = path.read_bytes(), ends(path)
    right = index_of(path).read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        index_of(path).write_bytes(right)
        left = some[: sum(end <= size for end in places)]
        assert (list(read_trees(path)), count_trees(path)) == (left, len(left))
        if size % 40 == 0 or size in places:
            write_trees(path, [tree_of(9)])
            assert_holds(path, [*left, tree_of(9)])
            assert path.read_bytes().startswith(whole[: places[len(left) - 1] if left else 0])


def test_zeros_where_a_lost_tree_should_be_are_no_tree(tmp_path):
    """A file system may have made the file longer before the power failed, and not filled it."""
    path, some = written(tmp_path)
    right = path.read_bytes()
    for began in (0, 3, 30):
        path.write_bytes(right + right[:began] + bytes(400))
        assert_holds(path, some)
        write_trees(path, [])
        assert path.read_bytes() == right


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_changed_byte_never_gives_another_tree(tmp_path_factory, data):
    path, some = written(tmp_path_factory.mktemp("trees"), range(3))
    if data.draw(st.booleans()):
        index_of(path).unlink()
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    try:
        found = list(read_trees(path))
    except ValueError:
        return
    assert found in (some, some[:2]), "only the last one can be missing without a word; some bits of a frame say nothing"


@pytest.mark.parametrize("number", range(2))
def test_no_bit_of_a_frame_s_header_costs_memory_or_gives_another_tree(tmp_path, number):
    """A frame says how long it will be: whoever believes a damaged one asks for terabytes."""
    path, some = written(tmp_path, range(3))
    right, start = path.read_bytes(), [0, *ends(path)][number]
    for place, bit in itertools.product(range(start, start + 20), range(8)):
        changed = bytearray(right)
        changed[place] ^= 1 << bit
        path.write_bytes(changed)
        try:
            found = list(read_trees(path))
        except ValueError:
            continue
        assert found == some


def test_a_killed_writer_loses_at_most_what_it_was_writing(tmp_path):
    path = tmp_path / "trees.jsonl.zst"
    code = f"""
import os, signal, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from algorithms.tracking.trees import write_trees
from algorithms.tree import RolloutTree

def some():
    yield from (RolloutTree(str(step)) for step in range(3))
    os.kill(os.getpid(), signal.SIGKILL)

write_trees(Path({str(path)!r}), [RolloutTree("first")])
write_trees(Path({str(path)!r}), some())
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    found = list(read_trees(path))
    assert found == [RolloutTree("first"), *(RolloutTree(str(step)) for step in range(len(found) - 1))]
    write_trees(path, [tree_of(9)])
    assert_holds(path, [*found, tree_of(9)])


# --- steps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", INDEXES)
@pytest.mark.parametrize("torn", [b"", b"\x28\xb5", b"\x28\xb5\x2f\xfd\x04"], ids=len)
def test_the_trees_of_steps_to_come_are_dropped(torn, state, tmp_path):
    path, some = written(tmp_path, [0, 0, 1, 2, 2])
    right, index = path.read_bytes(), index_of(path).read_bytes()
    path.write_bytes(right + torn)
    wrong = INDEXES[state](index, len(right))
    index_of(path).unlink() if wrong is None else index_of(path).write_bytes(wrong)
    for step, left in ((2, 3), (1, 2), (0, 0), (0, 0)):
        keep_trees_before(path, step)
        assert_holds(path, some[:left])
        assert path.read_bytes() == right[: len(path.read_bytes())]
        assert index_of(path).read_bytes() == index[: 8 * left]
    keep_trees_before(tmp_path / "missing.zst", 3)
    assert {one.name for one in tmp_path.iterdir()} == {path.name, index_of(path).name}


@pytest.mark.parametrize("state", INDEXES)
def test_the_trees_of_old_steps_are_forgotten(state, tmp_path):
    path, some = written(tmp_path, [0, 0, 1, 2, 2])
    wrong = INDEXES[state](index_of(path).read_bytes(), path.stat().st_size)
    index_of(path).unlink() if wrong is None else index_of(path).write_bytes(wrong)
    for step, gone in ((0, 0), (1, 2), (2, 3), (2, 3), (7, 5)):
        forget_trees_before(path, step)
        assert_holds(path, some[gone:])
        assert not gone or ends(path)[-1:] == [path.stat().st_size][: len(some) - gone]
    write_trees(path, some)
    assert_holds(path, some)
    forget_trees_before(tmp_path / "missing.zst", 3)
    assert {one.name for one in tmp_path.iterdir()} == {path.name, index_of(path).name}


def test_what_cannot_be_copied_is_not_forgotten(tmp_path, monkeypatch):
    path, some = written(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        forget_trees_before(path, 3)
    assert_holds(path, some)
    assert {one.name for one in tmp_path.iterdir()} == {path.name, index_of(path).name}


# --- the form of before ----------------------------------------------------------------------------------


def test_a_file_of_lines_becomes_a_compressed_one(tmp_path):
    old, new, some = tmp_path / "trees.jsonl", tmp_path / "trees.jsonl.zst", [tree_of(step) for step in range(4)]
    old.write_text("".join(readable(tree) + "\n" for tree in some) + '{"task":"to', encoding="utf-8")
    compress_trees(old, new)
    assert_holds(new, some)
    assert ends(new)[-1] == new.stat().st_size
    assert {one.name for one in tmp_path.iterdir()} == {new.name, index_of(new).name}
    compress_trees(old, new)
    assert_holds(new, some)
    old.write_text(readable(tree_of(8)) + "\n", encoding="utf-8")  # killed before it was removed
    compress_trees(old, new)
    assert_holds(new, some)
    assert not old.exists()


def test_a_compressed_file_names_the_package_that_it_needs(tmp_path, monkeypatch):
    path, _ = written(tmp_path)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    for ask in (count_trees, lambda path: list(read_trees(path)), lambda path: write_trees(path, [])):
        with pytest.raises(ConfigError, match=r"pip install 'arpo-envs\[train\]'"):
            ask(path)
    write_trees(tmp_path / "trees.jsonl", [crafted()])
    assert json.loads((tmp_path / "trees.jsonl").read_text(encoding="utf-8"))["task"] == "toy"
    assert_holds(tmp_path / "trees.jsonl", [crafted()])
