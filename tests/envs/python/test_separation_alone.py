"""Each check of what a copy could share with its original, for itself: a process table says what would otherwise be hidden."""

import os
import stat
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from python_sessions import eventually

from arpo_envs.tools.python.server.families import Branch, Family, Process
from arpo_envs.tools.python.server.processes import ProcessTable
from arpo_envs.tools.python.server.separation import Busy, Separation
from arpo_envs.tools.python.server.workdirs import Place

ROOT = "/sessions"
COPY, ORIGINAL = 1 << 30, (1 << 30) + 1
"""Numbers that no process has."""
CHANNEL, OTHER_CHANNEL = 11, 12
HOST, OWN, THEIRS = 1, 2, 3
"""File systems."""
NULL = os.stat("/dev/null").st_rdev
File = tuple[os.stat_result, str]


def file(kind: int, path: str, number: int = 5, system: int = HOST, device: int = 0) -> File:
    return os.stat_result((kind, number, system, 1, *[0] * 6), {"st_rdev": device}), path


def socket_of(number: int) -> File:
    return file(stat.S_IFSOCK, f"socket:[{number}]", number)


@dataclass
class Table:
    """A process table that says what it is told to say."""

    files: dict[int, dict[str, File]]
    mapped: str = ""
    rests: list[str | None] = field(default_factory=list)

    def rest(self, pid):
        return self.rests.pop(0) if self.rests else "1"

    def open_files(self, pid):
        return [int(name) for name in self.files[pid] if name != "cwd"]

    def target(self, path):
        pid, _, name = path.partition("/")
        return self.files[int(pid)][name.removeprefix("fd/")]

    def maps(self, pid):
        return self.mapped


@dataclass
class Scene:
    """A copy and its original that have nothing in common, until a test changes that."""

    bounded: bool
    same_path: bool = False

    def __post_init__(self) -> None:
        here, there = ("session", "session") if self.same_path else ("a/own", "a/theirs")
        self.own, self.theirs = f"{ROOT}/{here}", f"{ROOT}/{there}"
        systems = (OWN, THEIRS) if self.bounded else (-1, -1)
        places = [Place(path, device=system) for path, system in zip((self.own, self.theirs), systems, strict=True)]
        family, branch = Family(ROOT), Branch(ROOT)
        self.copy = Process(COPY, -1, family, branch, CHANNEL, places[0], inherited=places[1])
        self.original = Process(ORIGINAL, -1, family, branch, OTHER_CHANNEL, places[1])
        self.table = Table(
            {
                COPY: {"0": file(stat.S_IFCHR, "/dev/null", device=NULL), "3": socket_of(CHANNEL), "cwd": self.mine()},
                ORIGINAL: {"3": socket_of(OTHER_CHANNEL), "cwd": self.its()},
            }
        )

    def mine(self, kind: int = stat.S_IFDIR, name: str = "") -> File:
        return file(kind, self.own + name, 7, OWN if self.bounded else HOST)

    def its(self, kind: int = stat.S_IFDIR, name: str = "") -> File:
        return file(kind, self.theirs + name, 8, THEIRS if self.bounded else HOST)

    def complaint(self, *, files: bool = True, alone: bool = False) -> str | None:
        separation = Separation(self.table, ROOT, bounded=self.bounded)  # type: ignore[arg-type]  # as good as one
        return separation.complaint(self.copy, None if alone else self.original, files=files)


@pytest.fixture(params=[(True, True), (True, False), (False, False)], ids=["own mounts", "bounded", "folders"])
def scene(request):
    return Scene(*request.param)


def test_who_has_its_own_things_only_is_separate(scene):
    scene.table.files[COPY] |= {"4": scene.mine(stat.S_IFREG, "/f"), "5": file(stat.S_IFREG, "/usr/lib/python3/os.py")}
    scene.table.files[ORIGINAL] |= {"4": scene.its(stat.S_IFREG, "/f"), "5": file(stat.S_IFREG, "/usr/lib/x", 6)}
    scene.table.mapped = (
        f"7f00-9f00 r--s 00000000 00:{OWN:02x} 7    {scene.own}/f\n7f00-9f00 r--p 00000000 08:01 9    /usr/lib/x"
    )
    assert scene.complaint() is None


DESCRIPTORS = {
    "a pipe": (file(stat.S_IFIFO, "pipe:[9]"), "a pipe"),
    "another socket": (socket_of(OTHER_CHANNEL), "a socket"),
    "a terminal": (file(stat.S_IFCHR, "/dev/tty", device=os.makedev(5, 0)), "a device"),
    "an event": (file(0, "anon_inode:[eventfd]"), "an open file"),
    "a disk": (file(stat.S_IFBLK, "/dev/sda"), "an open file"),
}


@pytest.mark.parametrize(("kept", "named"), DESCRIPTORS.values(), ids=DESCRIPTORS)
@pytest.mark.parametrize("alone", [False, True])
def test_a_descriptor_of_another_kind_is_seen(scene, kept, named, alone):
    scene.table.files[COPY]["9"] = kept
    assert scene.complaint(alone=alone) == f"it kept {named} of its original's"


@pytest.mark.parametrize(
    ("kind", "named"), [(stat.S_IFREG, "an open file"), (stat.S_IFDIR, "a folder"), (stat.S_IFLNK, "an open file")]
)
@pytest.mark.parametrize("name", ["", "/f", "-and-more/f"])
def test_a_file_in_another_working_directory_is_seen(scene, kind, named, name):
    scene.table.files[COPY]["9"] = scene.its(kind, name)
    assert scene.complaint(alone=True) == f"it kept {named} of its original's"


def test_a_file_of_a_third_working_directory_is_seen(scene):
    scene.table.files[COPY]["9"] = file(stat.S_IFREG, f"{scene.own}-of-another/f", system=THEIRS + 1)
    assert scene.complaint(alone=True) == "it kept an open file of its original's"


@pytest.mark.parametrize("same_path", [False, True])
def test_a_file_whose_mount_is_gone_is_known_by_its_file_system(same_path):
    scene = Scene(True, same_path)
    scene.table.files[COPY]["9"] = file(stat.S_IFREG, "/f", system=THEIRS)
    assert scene.complaint(alone=True) == "it kept an open file of its original's"


def test_the_working_directory_counts_as_well(scene):
    scene.table.files[COPY]["cwd"] = scene.its()
    assert scene.complaint() == "it kept the working directory of its original's"


def test_who_has_no_working_directory_yet_may_be_in_none(scene):
    scene.copy.place = None
    assert scene.complaint() == "it kept the working directory of its original's"
    scene.table.files[COPY]["cwd"] = file(stat.S_IFDIR, "/")
    assert scene.complaint() is None


def test_a_mapping_of_the_originals_file_is_seen_where_there_are_files(scene):
    scene.table.mapped = f"7f00-9f00 r--s 00000000 00:{THEIRS:02x} 7    {scene.theirs}/f"
    assert scene.complaint() == "it kept a file of its original's in its memory"
    scene.table.mapped += " (deleted)"
    assert scene.complaint(alone=True) == "it kept a file of its original's in its memory"
    assert scene.complaint(files=False) is None


def test_an_original_with_a_copys_channel_or_files_is_seen(scene):
    scene.table.files[ORIGINAL]["9"] = socket_of(CHANNEL)
    assert scene.complaint() == "its original kept the channel of a copy"
    scene.table.files[ORIGINAL]["9"] = scene.mine(stat.S_IFREG, "/f")
    assert scene.complaint() == "its original kept an open file of a copy's"


def test_one_opening_of_both_is_seen(scene, tmp_path):
    scene.copy.pid = scene.original.pid = os.getpid()
    opened = os.open(tmp_path, os.O_RDONLY)
    duplicate, other = os.dup(opened), os.open(tmp_path, os.O_RDONLY)
    outside = (os.stat(tmp_path), str(tmp_path))
    try:
        for theirs, complaint in ((duplicate, "it shares a folder with its original"), (other, None)):
            both = Both(scene.table, {str(opened): outside}, {str(theirs): outside})
            looked = Separation(both, ROOT, bounded=scene.bounded).complaint(scene.copy, scene.original, files=True)
            assert looked == complaint
    finally:
        for each in (opened, duplicate, other):
            os.close(each)


class Both(Table):
    """A table of two processes that are one: each listing is the next one's."""

    def __init__(self, table: Table, *opened: dict[str, File]) -> None:
        super().__init__(table.files)
        self._listings = [[int(name) for name in each] for each in opened]
        self._known = {name: found for each in opened for name, found in each.items()} | {"cwd": file(stat.S_IFDIR, "/")}

    def open_files(self, pid):
        return self._listings.pop(0)

    def target(self, path):
        return self._known[path.partition("/")[2].removeprefix("fd/")]


@pytest.mark.parametrize(
    "rests", [["1", "1", "1", "2"], ["1", "1", "2", "1"], ["1", "1", None, "1"], [None] * 99, [None, "1"] * 99]
)
def test_what_is_seen_of_somebody_who_runs_does_not_count(scene, rests):
    scene.table.rests = list(rests)
    with pytest.raises(Busy):
        scene.complaint()


def test_somebody_who_comes_to_rest_in_a_moment_is_waited_for(scene):
    scene.table.rests = [None, "1", "1", None, "1", "1"]
    assert scene.complaint() is None


def test_somebody_who_closes_something_meanwhile_runs(scene):
    del scene.table.files[COPY]
    scene.table.files[COPY] = {}
    scene.table.target = lambda path: os.stat("/no such file")
    with pytest.raises(Busy):
        scene.complaint()


def test_who_computes_does_not_rest_and_who_has_run_is_not_as_before():
    table = ProcessTable()
    with subprocess.Popen([sys.executable, "-c", "input()\nwhile True: pass"], stdin=subprocess.PIPE) as process:
        try:
            assert eventually(lambda: table.rest(process.pid) is not None)
            before = table.rest(process.pid)
            assert table.rest(process.pid) == before
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert eventually(lambda: table.rest(process.pid) is None)
            process.send_signal(19)
            assert eventually(lambda: table.rest(process.pid) not in (None, before))
        finally:
            process.kill()
