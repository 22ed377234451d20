"""Single protections, each for itself: what no attack finds missing, because another layer holds as well."""

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from isolation_modes import ALONE, SERVER, skip_if_missing

from arpo_envs.tools.python.server import folder, isolation, supervisor
from arpo_envs.tools.python.server.child import die_with_parent
from arpo_envs.tools.python.server.families import Family, Window
from arpo_envs.tools.python.server.forking import FLAGS, FLAGS_WITH_MOUNTS
from arpo_envs.tools.python.server.frames import Channel
from arpo_envs.tools.python.server.open_files import MOST_FILES, RESERVED_FILES
from arpo_envs.tools.python.server.separation import Busy
from arpo_envs.tools.python.server.supervisor import Supervisor
from arpo_envs.tools.python.server.workdirs import Trash, WorkDirs, make_trash

OTHER = 99
_SOON = 5.0
"""Seconds within which what must happen has happened."""


class Table:
    """A process table that says what it is told to say."""

    def __init__(self) -> None:
        self.parents: dict[int, int] = {}

    def parent(self, pid):
        return self.parents.get(pid)

    def children(self, parent):
        return [pid for pid, its in self.parents.items() if its == parent]

    def nameless(self, pid):
        return {}

    def mapped(self, pid, folder):
        return []


class Stage:
    """A supervisor whose template and sessions only sleep."""

    def __init__(self, root: Path) -> None:
        self.sleepers = [subprocess.Popen(["sleep", "600"]) for _ in range(3)]
        self.template, self.child, self.other = (sleeper.pid for sleeper in self.sleepers)
        self.table: Any = Table()
        self.host = subprocess.Popen(["sleep", "600"])
        self.table.parents = {self.child: self.template, self.other: OTHER}
        self.sockets = [*socket.socketpair(), *socket.socketpair()]
        self.workdirs = WorkDirs(str(root), None, None, Trash(make_trash(str(root)), lambda: None), 100)
        self.supervisor = Supervisor(
            Channel(self.sockets[0]),
            os.pidfd_open(self.host.pid),
            (self.template, os.open("/dev/null", os.O_WRONLY), self.sockets[2]),
            self.workdirs,
            self.table,
            None,
        )
        self.family = Family(self.workdirs.make_family())

    def order(self, source: int | None = None, family: Family | None = None) -> int:
        window = Window(family or self.family, 0, source, kind="open" if source is None else "parked")
        return int(self.supervisor._new_window(window)["window"])

    def copy(self, kind: str, *, files: bool = False) -> int:
        original = self.supervisor._processes[self.child]
        window = Window(self.family, 0, self.child, original, kind, copy=files)
        return int(self.supervisor._new_window(window)["window"])

    def close(self) -> None:
        for sleeper in (self.host, *self.sleepers):
            sleeper.kill()
            sleeper.wait()
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    yield stage
    stage.close()


# --- who is a session --------------------------------------------------------------------------------------


def test_only_a_child_of_the_template_becomes_a_session(stage):
    assert stage.supervisor._register(stage.order(), stage.other) == {"failed": "the new process is not a session"}
    assert stage.other not in stage.supervisor._processes
    assert "failed" not in stage.supervisor._register(stage.order(), stage.child)
    assert stage.child in stage.supervisor._processes


def test_no_process_is_two_sessions(stage):
    assert "failed" not in stage.supervisor._register(stage.order(), stage.child)
    assert "failed" in stage.supervisor._register(stage.order(), stage.child)


def test_who_is_registered_may_have_few_descriptors(stage):
    assert stage.supervisor._register(stage.order(), stage.child)["separate"]
    most = MOST_FILES + RESERVED_FILES
    assert resource.prlimit(stage.child, resource.RLIMIT_NOFILE) == (most, most)


# --- who may fork ------------------------------------------------------------------------------------------


def test_an_order_allows_one_fork_of_one_process_of_one_family(stage):
    stage.order(source=stage.child)
    stage.order(source=stage.other, family=Family(stage.workdirs.make_family()))
    may_fork = stage.supervisor._may_fork
    assert [may_fork(stage.family, pid) for pid in (stage.template, stage.other)] == [False, False]
    assert [may_fork(stage.family, stage.child) for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize(
    ("flags", "allowed"),
    [(FLAGS, True), (FLAGS & ~0x8000, False), (17, False), (FLAGS | 0x100, False), (FLAGS_WITH_MOUNTS, False)],
)
def test_only_the_fork_that_was_meant_is_allowed(stage, monkeypatch, flags, allowed):
    answers = []
    asked = isolation.Notification(1, stage.child, 56, (flags, 0, 0, 0, 0, 0))
    monkeypatch.setattr(supervisor.notifications, "receive", lambda listener: asked)
    monkeypatch.setattr(supervisor.notifications, "answer", lambda listener, id, allow: answers.append(allow))
    stage.family.listener = 0
    stage.order(source=stage.child)
    for _ in range(2):
        stage.supervisor._judge_fork(stage.family, supervisor.select.EPOLLIN)
    assert answers == [allowed, False], "one order is one fork"


def test_what_comes_of_a_fork_that_was_given_up_is_killed_and_sessions_are_not(stage):
    stray = subprocess.Popen(["sleep", "600"])
    stage.sleepers.append(stray)
    stage.supervisor._register(stage.order(), stage.child)
    stage.table.parents[stray.pid] = stage.template
    stage.supervisor._cancel(stage.order(source=stage.child))
    assert stage.supervisor._must_sweep
    stage.supervisor._sweep()
    assert stray.wait(_SOON) == -signal.SIGKILL
    assert [sleeper.poll() for sleeper in stage.sleepers[:3]] == [None] * 3


@pytest.mark.parametrize("last", [True, False])
def test_the_folder_of_a_family_goes_with_its_last_fork_that_was_given_up_and_not_before(stage, last):
    number = stage.order()
    if not last:
        stage.supervisor._register(stage.order(), stage.child)
    stage.supervisor._cancel(number)
    assert os.path.isdir(stage.family.folder) != last


@pytest.mark.parametrize("last", [True, False])
def test_the_folder_of_a_session_goes_with_it_and_its_familys_with_the_last(stage, last):
    stage.supervisor._register(stage.order(), stage.child)
    if not last:
        stage.order(source=stage.child)
    process = stage.supervisor._processes[stage.child]
    stage.supervisor._forget(process)
    assert not os.path.exists(process.place.path)
    assert os.path.isdir(stage.family.folder) != last


# --- what is not separate ----------------------------------------------------------------------------------


class Looking:
    """Finds of a copy what it is told to find."""

    def __init__(self, found: "str | Exception | None") -> None:
        self.found = found

    def complaint(self, copy, original, *, files):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


REFUSED = {
    "seen": ("it kept a pipe", "it kept a pipe"),
    "not to be looked at": (OSError(13, "Permission denied"), "it cannot be inspected (Permission denied)"),
}


@pytest.mark.parametrize(("found", "said"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("kind", ["parked", "clone"])
def test_a_copy_that_is_not_separate_is_refused_and_killed(stage, found, said, kind):
    stage.supervisor._register(stage.order(), stage.child)
    stage.supervisor._separation = Looking(found)
    stage.table.parents[stage.other] = stage.template
    answer = stage.supervisor._register(stage.copy(kind), stage.other)
    assert answer["failed"] == f"the copy is not separate: {said}"
    assert stage.sleepers[2].wait(_SOON) == -signal.SIGKILL
    assert stage.sleepers[1].poll() is None


def test_of_a_copy_that_is_busy_nobody_says_that_it_is_separate(stage):
    stage.supervisor._register(stage.order(), stage.child)
    stage.supervisor._separation = Looking(Busy())
    stage.table.parents[stage.other] = stage.template
    assert stage.supervisor._register(stage.copy("clone"), stage.other)["separate"] is False
    assert stage.supervisor._finish(stage.other) == {"separate": False}
    stage.supervisor._separation = Looking(None)
    assert stage.supervisor._finish(stage.other) == {"separate": True}


@pytest.mark.parametrize("files", [False, True])
def test_a_checkpoint_is_looked_at_before_it_takes_its_originals_place(stage, files):
    stage.supervisor._register(stage.order(), stage.child)
    stage.supervisor._separation = Looking("it kept a pipe")
    stage.table.parents[stage.other] = stage.template
    assert "failed" not in stage.supervisor._register(stage.copy("checkpoint", files=files), stage.other)
    assert stage.supervisor._settle(stage.other)["failed"] == "the copy is not separate: it kept a pipe"
    assert stage.sleepers[2].wait(_SOON) == -signal.SIGKILL


# --- the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["host", "template", "control"])
def test_who_supervises_ends_with_its_host_and_with_its_template(stage, who):
    if who == "control":
        stage.sockets[1].close()
    else:
        (stage.host if who == "host" else stage.sleepers[0]).kill()
    supervising = threading.Thread(target=stage.supervisor.run, daemon=True)
    supervising.start()
    supervising.join(_SOON)
    assert not supervising.is_alive()
    assert stage.sleepers[0].wait(_SOON) == -signal.SIGKILL


# --- processes ---------------------------------------------------------------------------------------------


def _status_of(action) -> int:
    child = os.fork()
    if not child:
        try:
            action()
        finally:
            os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_who_has_another_parent_by_now_ends_at_once():
    here = os.getpid()
    assert _status_of(lambda: die_with_parent(here)) == 7
    assert _status_of(lambda: die_with_parent(here + 1)) == 0


def test_who_dies_with_its_parent_is_killed_by_the_kernel():
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        here = os.getpid()
        if not os.fork():
            die_with_parent(here)
            os.write(writing, b"1")
            time.sleep(600)
            os._exit(0)
        os.read(reading, 1)
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    assert select.select([reading], [], [], _SOON)[0], "the pipe ends with the grandchild"
    assert os.read(reading, 1) == b""
    os.close(reading)


_LIMITS = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
from server.isolation import limits
limits.apply(limits.Limits(1 << 30, 60, 1 << 20, 64))
names = ("DATA", "AS", "CPU", "FSIZE", "NOFILE", "CORE", "STACK", "MEMLOCK", "MSGQUEUE")
print(json.dumps({name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}", 12)) for name in names}))
"""


def test_every_limit_is_set_for_good():
    done = subprocess.run([sys.executable, "-I", "-c", _LIMITS, str(SERVER)], capture_output=True, text=True, check=True)
    expected = {"DATA": 1 << 30, "AS": 5 << 30, "CPU": 60, "FSIZE": 1 << 20, "NOFILE": 64}
    expected |= {"CORE": 1, "STACK": 8 << 20, "MEMLOCK": 0, "MSGQUEUE": 0}
    assert json.loads(done.stdout) == {name: [value, value] for name, value in expected.items()}


_SEPARATE = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from server.isolation import namespaces
def link(kind):
    try:
        return os.readlink(f"/proc/self/ns/{kind}")
    except FileNotFoundError:  # no process is in it yet
        return None
kinds = ("user", "pid_for_children", "net", "mnt", "uts", "ipc")
before = [link(kind) for kind in kinds]
namespaces.separate(namespaces.REQUIRED)
print(json.dumps([kind for kind, old in zip(kinds, before) if link(kind) == old]))
"""


def test_every_namespace_is_a_new_one():
    skip_if_missing(isolation.probe(), ALONE["namespaces"])
    done = subprocess.run([sys.executable, "-I", "-c", _SEPARATE, str(SERVER)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


_BY_LANDLOCK = """
import json, os, socket, sys
sys.path.insert(0, sys.argv[1])
from server.isolation import capabilities, landlock
os.chdir(sys.argv[2])
for folder in ("own", "read"):
    os.mkdir(folder)
    os.close(os.open(f"{folder}/program", os.O_CREAT, 0o755))  # it is none, which is seen after it was allowed
capabilities.forbid_new_privileges()
landlock.restrict([os.path.abspath("read")], [], os.path.abspath("own"))
def tried(action, *arguments):
    try:
        action(*arguments)
    except OSError as error:
        return error.strerror
    return "done"
print(json.dumps({
    folder: {
        "program": tried(os.execv, f"{folder}/program", ["program"]),
        "socket": tried(socket.socket(socket.AF_UNIX).bind, f"{folder}/socket"),
        "device": tried(os.mknod, f"{folder}/device", 0o020600, os.makedev(1, 3)),
        "file": tried(open, f"{folder}/file", "w"),
        "change": tried(open, f"{folder}/program", "r+"),
        "folder": tried(os.mkdir, f"{folder}/folder"),
        "link": tried(os.symlink, "program", f"{folder}/link"),
        "pipe": tried(os.mkfifo, f"{folder}/pipe"),
        "remove": tried(os.unlink, f"{folder}/program"),
    }
    for folder in ("own", "read")
}))
"""


def test_nothing_is_run_or_changed_that_may_only_be_read_and_no_programs_sockets_and_devices_are_made(tmp_path):
    skip_if_missing(isolation.probe(), ALONE["landlock"])
    command = [sys.executable, "-I", "-c", _BY_LANDLOCK, str(SERVER), str(tmp_path)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    refused = {"Permission denied", "Operation not permitted"}
    assert set(found["read"].values()) <= refused, found["read"]
    assert {found["own"].pop(what) for what in ("program", "socket", "device")} <= refused
    assert set(found["own"].values()) == {"done"}, found["own"]


def test_a_server_that_lives_keeps_its_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(folder.tempfile, "gettempdir", lambda: str(tmp_path))
    path, lock = folder.make_folder()
    folder.remove_stale_folders()
    assert os.path.isdir(path)
    os.close(lock)
    folder.remove_stale_folders()
    assert not os.path.exists(path)
