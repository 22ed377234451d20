"""Working directories that somebody hostile has filled: removing, counting and copying them."""

import os
import stat
import tempfile
import threading
from pathlib import Path

import pytest

from arpo_envs.tools.python.server import workdirs
from arpo_envs.tools.python.server.copying import copy_tree
from arpo_envs.tools.python.server.workdirs import Trash, WorkDirs, counted, remove_tree


@pytest.fixture
def victim(tmp_path):
    """A folder of the host's."""
    folder = tmp_path / "victim"
    (folder / "inner").mkdir(parents=True)
    (folder / "file").write_text("precious")
    folder.chmod(0o750)
    return folder


def _is_untouched(victim):
    names = sorted(path.name for path in victim.iterdir())
    return names == ["file", "inner"] and stat.S_IMODE(victim.stat().st_mode) == 0o750


def _deep(folder, levels):
    """Makes folders in folders until no path leads to the innermost one; returns a descriptor of that."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d" * 200, dir_fd=here)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    return here


def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path, victim):
    (tmp_path / "workdir").symlink_to(victim)
    remove_tree(str(tmp_path / "workdir"))
    assert _is_untouched(victim)


def test_links_in_the_folder_are_removed_and_not_followed(tmp_path, victim):
    folder = tmp_path / "workdir"
    (folder / "a" / "b").mkdir(parents=True)
    for place in (folder, folder / "a", folder / "a" / "b"):
        (place / "link").symlink_to(victim)
        (place / "up").symlink_to("..")
    remove_tree(str(folder))
    assert not folder.exists()
    assert _is_untouched(victim)


def test_a_folder_that_becomes_a_link_while_it_is_removed_is_not_followed(tmp_path, victim, monkeypatch):
    folder = tmp_path / "workdir"
    (folder / "inner").mkdir(parents=True)
    scandir = os.scandir

    def swapping(path):
        """Lists, and then somebody quick puts a link in the place of what was listed."""
        listing = scandir(path)
        entries = list(listing)
        if (folder / "inner").is_dir() and not (folder / "inner").is_symlink():
            (folder / "inner").rename(folder / "moved")
            (folder / "inner").symlink_to(victim)
        listing.close()
        return _Listing(entries)

    monkeypatch.setattr(workdirs.os, "scandir", swapping)
    remove_tree(str(folder))
    assert _is_untouched(victim)


class _Listing(list):
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_who_goes_on_filling_a_folder_does_not_keep_the_remover_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(workdirs, "_MOST_ROUNDS", 50)
    monkeypatch.setattr(workdirs, "_empty", lambda folder, top: True)
    remover = threading.Thread(target=remove_tree, args=(str(tmp_path),), daemon=True)
    remover.start()
    remover.join(20.0)
    assert not remover.is_alive()


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o500])
def test_closed_folders_are_removed(tmp_path, mode):
    folder = tmp_path / "workdir"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_text("x")
    (folder / "a" / "b").chmod(mode)
    (folder / "a").chmod(mode)
    remove_tree(str(folder))
    assert not folder.exists()


def test_folders_below_the_longest_path_are_counted_and_removed(tmp_path):
    folder = tmp_path / "workdir"
    folder.mkdir()
    innermost = _deep(folder, 30)
    with open(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=innermost), "wb") as file:
        file.write(bytes(1 << 20))
    os.close(innermost)
    assert counted(str(folder), most=1000).entries > 1000, "what cannot be looked into counts as too much"
    remove_tree(str(folder))
    assert not folder.exists()


def test_a_copy_keeps_holes_names_links_and_times(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "inner").mkdir(parents=True)
    target.mkdir()
    with (source / "holes").open("wb") as file:
        file.seek(5 << 20)
        file.write(b"data")
        file.truncate(50 << 20)
    os.utime(source / "holes", (1e9, 1e9))
    (source / "one").write_bytes(bytes(range(256)) * 4096)
    os.link(source / "one", source / "inner" / "other")
    (source / "link").symlink_to("one")
    copy_tree(str(source), str(target))
    assert (target / "holes").read_bytes() == (source / "holes").read_bytes()
    assert (target / "holes").stat().st_blocks * 512 < 1 << 20
    assert (target / "holes").stat().st_mtime == 1e9
    assert (target / "one").read_bytes() == (source / "one").read_bytes()
    assert os.path.samefile(target / "one", target / "inner" / "other")
    assert not os.path.samefile(target / "one", source / "one")
    assert os.readlink(target / "link") == "one"


def test_a_copy_keeps_modes_whatever_is_masked(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    modes = {"a": 0o400, "b": 0o777, "c": 0o604, "d": 0o1640}
    for name, mode in modes.items():
        (source / name).write_text(name)
        (source / name).chmod(mode)
        (source / f"{name}{name}").mkdir()
        (source / f"{name}{name}").chmod(mode | 0o700)
    umask = os.umask(0o077)
    try:
        copy_tree(str(source), str(target))
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(umask)
    for name, mode in modes.items():
        assert stat.S_IMODE((target / name).stat().st_mode) == mode
        assert stat.S_IMODE((target / f"{name}{name}").stat().st_mode) == mode | 0o700


@pytest.mark.parametrize("place", [None, "/dev/shm"])
def test_a_copy_is_listed_in_the_same_order_and_keeps_times(tmp_path, place):
    if place is not None and not os.access(place, os.W_OK):
        pytest.skip(f"{place}: no file system in memory")
    with tempfile.TemporaryDirectory(dir=place or tmp_path) as parent:
        source, target = Path(parent, "source"), Path(parent, "target")
        source.mkdir()
        target.mkdir()
        for number in range(30):
            (source / f"{number * 7 % 30}").write_text("x")
            (source / "inner" / f"{number * 11 % 30}").mkdir(parents=True)
        (source / "3").rename(source / "4")
        (source / "link").symlink_to("nowhere")
        os.utime(source / "link", (5e8, 6e8), follow_symlinks=False)
        os.utime(source / "inner", (7e8, 8e8))
        os.utime(source, (9e8, 1e9))
        copy_tree(str(source), str(target))
        for folder in (".", "inner"):
            assert os.listdir(target / folder) == os.listdir(source / folder)
        times = [(target / name).lstat().st_mtime for name in ("link", "inner", ".")]
        assert times == [6e8, 8e8, 1e9]


def test_a_copy_leaves_out_what_no_path_leads_to(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "file").write_text("x")
    os.close(_deep(source, 30))
    copy_tree(str(source), str(target))
    assert (target / "file").read_text() == "x"
    remove_tree(str(source))
    remove_tree(str(target))
    assert not source.exists()
    assert not target.exists()


class _Place(WorkDirs):
    """Working directories with a trash that nobody empties; it counts how often somebody was asked to."""

    def __init__(self, root, entries=100):
        root.mkdir(workdirs.CLOSED)
        self.trash, self.asked = Path(workdirs.make_trash(str(root))), 0
        super().__init__(str(root), None, None, Trash(str(self.trash), self._ask), entries)

    def _ask(self):
        self.asked += 1


def _made(folders, family):
    return folders.make(family, -1, None, copy=False)


def test_the_folders_above_are_closed_again(tmp_path):
    folders = _Place(tmp_path / "root")
    family = folders.make_family()
    place = _made(folders, family)
    path = place.path
    Path(path, "file").write_text("x")
    assert {stat.S_IMODE(os.stat(folder).st_mode) for folder in (folders.root, family)} == {workdirs.CLOSED}
    with workdirs._opened(family):  # as for those who are not root
        assert stat.S_IMODE(os.stat(family).st_mode) == 0o311
    assert stat.S_IMODE(os.stat(family).st_mode) == 0o111
    folders.remove(place)
    assert not os.path.exists(path)
    folders.remove_family(family)
    assert not os.path.exists(family)
    assert stat.S_IMODE(os.stat(folders.root).st_mode) == 0o111


def test_what_is_removed_is_moved_as_it_is_and_empty_folders_need_nobody(tmp_path, monkeypatch):
    folders = _Place(tmp_path / "root")
    family = folders.make_family()
    empty, full = _made(folders, family), _made(folders, family)
    (Path(full.path) / "inner").mkdir()
    number = os.stat(full.path).st_ino
    folders.remove(empty)
    assert (folders.asked, list(folders.trash.iterdir())) == (0, [])
    monkeypatch.setattr(workdirs, "empty_folder", None)
    monkeypatch.setattr(workdirs, "remove_tree", None)
    folders.remove(full)
    [moved] = folders.trash.iterdir()
    assert (folders.asked, moved.stat().st_ino, [path.name for path in moved.iterdir()]) == (1, number, ["inner"])
    folders.remove(full)
    folders.remove_family(family)
    assert (folders.asked, os.path.exists(family)) == (1, False)


def test_a_link_in_the_place_of_a_working_directory_is_thrown_away_as_a_link(tmp_path, victim):
    folders = _Place(tmp_path / "root")
    family = folders.make_family()
    place = _made(folders, family)
    os.rmdir(place.path)
    os.symlink(victim, place.path)
    folders.remove(place)
    [moved] = folders.trash.iterdir()
    assert moved.is_symlink()
    workdirs.empty_folder(str(folders.trash))
    assert list(folders.trash.iterdir()) == []
    assert _is_untouched(victim)


def test_no_more_is_counted_than_a_working_directory_may_hold(tmp_path):
    folders = _Place(tmp_path / "root", entries=7)
    place = _made(folders, folders.make_family())
    for number in range(100):
        Path(place.path, str(number)).mkdir()
    assert folders.usage(place).entries == 8
