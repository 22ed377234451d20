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
from python_sessions import MODES, alive, cloned, eventually, opened, run, text, usable_tool

from arpo_envs.tools.python.launch import ENVIRONMENT
from arpo_envs.tools.python.server import folder, isolation, supervisor
from arpo_envs.tools.python.server.child import die_with_parent
from arpo_envs.tools.python.server.forking import FLAGS
from arpo_envs.tools.python.server.frames import Channel
from arpo_envs.tools.python.server.open_files import MOST_FILES, RESERVED_FILES
from arpo_envs.tools.python.server.supervisor import Branch, Family, Supervisor, Window
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
        )
        self.family = Family(self.workdirs.make_family())

    def order(self, source: int | None = None, family: Family | None = None) -> int:
        family = family or self.family
        window = Window(family, Branch(family.folder), source, self.workdirs.make(family.folder))
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
    assert stage.supervisor._register(stage.order(), stage.child) == {}


def test_no_process_is_two_sessions(stage):
    assert stage.supervisor._register(stage.order(), stage.child) == {}
    assert "failed" in stage.supervisor._register(stage.order(), stage.child)


def test_who_is_registered_may_have_few_descriptors(stage):
    stage.supervisor._register(stage.order(), stage.child)
    most = MOST_FILES + RESERVED_FILES
    assert resource.prlimit(stage.child, resource.RLIMIT_NOFILE) == (most, most)


# --- who may fork ------------------------------------------------------------------------------------------


def test_an_order_allows_one_fork_of_one_process_of_one_family(stage):
    stage.order(source=stage.child)
    stage.order(source=stage.other, family=Family(stage.workdirs.make_family()))
    may_fork = stage.supervisor._may_fork
    assert [may_fork(stage.family, pid) for pid in (stage.template, stage.other)] == [False, False]
    assert [may_fork(stage.family, stage.child) for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize(("flags", "allowed"), [(FLAGS, True), (FLAGS & ~0x8000, False), (17, False), (FLAGS | 0x100, False)])
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


def test_the_folder_of_a_fork_that_was_given_up_is_removed_and_its_familys_is_not(stage):
    stage.supervisor._register(stage.order(), stage.child)
    number = stage.order(source=stage.child)
    workdir = stage.supervisor._windows[number].workdir
    stage.supervisor._cancel(number)
    assert not os.path.exists(workdir)
    assert os.path.isdir(stage.family.folder)


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


_IN_ITS_FOLDER = """
import json, os, shutil, socket, sys
sys.path.insert(0, sys.argv[1])
from server.isolation import capabilities, landlock
os.chdir(sys.argv[2])
shutil.copy("/bin/true", "program")
capabilities.forbid_new_privileges()
landlock.restrict(["/usr", "/lib", "/lib64"], [], sys.argv[2])
def tried(action, *arguments):
    try:
        action(*arguments)
    except OSError as error:
        return error.strerror
    return "done"
found = {
    "program": tried(os.execv, "program", ["program"]),
    "socket": tried(socket.socket(socket.AF_UNIX).bind, "socket"),
    "device": tried(os.mknod, "device", 0o020600, os.makedev(1, 3)),
    "pipe": tried(os.mkfifo, "pipe"),
    "file": tried(open, "file", "w"),
}
print(json.dumps(found))
"""


def test_the_folder_that_may_be_written_takes_no_programs_no_sockets_and_no_devices(tmp_path):
    skip_if_missing(isolation.probe(), ALONE["landlock"])
    command = [sys.executable, "-I", "-c", _IN_ITS_FOLDER, str(SERVER), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert (found.pop("pipe"), found.pop("file")) == ("done", "done")
    assert set(found.values()) <= {"Permission denied", "Operation not permitted"}


def test_a_server_that_lives_keeps_its_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(folder.tempfile, "gettempdir", lambda: str(tmp_path))
    path, lock = folder.make_folder()
    folder.remove_stale_folders()
    assert os.path.isdir(path)
    os.close(lock)
    folder.remove_stale_folders()
    assert not os.path.exists(path)


# --- what a cell leaves in its own process -----------------------------------------------------------------


@pytest.fixture(scope="module", params=MODES)
def tool(request):
    return usable_tool(request.param, imports=())


@pytest.fixture
def session(tool):
    with opened(tool) as session:
        yield session


def test_timers_end_with_their_cell(session):
    cell = """
import signal
hits = []
for number, timer in ((14, 0), (26, 1), (27, 2)):
    signal.signal(number, lambda *_: hits.append(1))
    signal.setitimer(timer, 0.15, 0.15)
"""
    text(session, cell)
    left = "[signal.getitimer(timer) for timer in (1, 2)], hits"
    time.sleep(0.5)
    assert text(session, left) == "([(0.0, 0.0), (0.0, 0.0)], [])"
    with cloned(session) as [twin]:
        assert text(twin, left) == "([(0.0, 0.0), (0.0, 0.0)], [])"


@pytest.mark.parametrize(
    "spoil",
    [
        "import signal; signal.signal(signal.SIGALRM, signal.SIG_IGN)",
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})",
    ],
    ids=["ignored", "blocked"],
)
def test_the_time_limit_acts_again_in_the_next_cell(session, spoil):
    text(session, f"{spoil}\nn = 0")
    result = run(session, "n = 1\nwhile True: pass", timeout=0.2)
    assert result.text == "timed out after 0.2 s; the state up to there is kept"
    assert text(session, "n") == "1"


def test_sessions_have_nothing_of_the_servers_own_code(session):
    text(session, "import sys, importlib")
    assert text(session, "[name for name in sys.modules if name.partition('.')[0] == 'server']") == "[]"
    assert "ModuleNotFoundError" in run(session, "import server").text


@pytest.mark.parametrize("switch", ["settrace", "setprofile"])
def test_nothing_of_a_cell_follows_what_is_done_between_cells(session, switch):
    spy = "lambda frame, event, argument: seen.append(frame.f_code.co_name)"
    text(session, f"import sys\nseen = []\nsys.{switch}({spy})")
    text(session, "1")
    ours = ("send", "receive", "_obey", "_copy")
    assert text(session, f"[name for name in seen if name in {ours}]") == "[]"


def test_the_lowest_recursion_limit_costs_only_the_cell_that_sets_it(session):
    lower = """
import sys
for limit in range(1, 1000):
    try:
        sys.setrecursionlimit(limit)
        break
    except RecursionError:
        pass"""
    run(session, lower)
    assert run(session, "1 / 0").text.endswith("ZeroDivisionError: division by zero")
    assert int(text(session, "sys.getrecursionlimit()")) >= 1000


def test_a_session_holds_one_socket_and_nothing_else_of_the_servers(session):
    files = """
import os, stat
found = []
for file in range(4096):
    try:
        found.append((file, stat.S_IFMT(os.fstat(file).st_mode)))
    except OSError:
        pass
kinds = [kind for file, kind in found if file > 2]
kinds == [stat.S_IFSOCK], {kind for file, kind in found if file < 3} == {stat.S_IFCHR}"""
    assert text(session, files) == "(True, True)"
    with cloned(session) as [twin], cloned(twin) as [heir]:
        assert text(heir, files) == "(True, True)"


def test_the_environment_holds_nothing_of_the_hosts(session):
    assert text(session, "import os; sorted(os.environ)") == repr(sorted([*ENVIRONMENT, "HOME", "TMPDIR"]))


@pytest.mark.parametrize(
    "reply",
    [
        '{"text": "x" * 8001, "error": None}',
        '{"text": 5, "error": None}',
        '{"text": "", "error": "limit"}',
        '{"text": "", "error": {}}',
        "{}",
    ],
    ids=["long", "no text", "another error", "no error", "empty"],
)
def test_an_answer_that_no_cell_can_give_is_not_believed(session, reply):
    """Even one with the order's own nonce, which a cell can find."""
    forge = f"""
import json, os, struct, sys
here = sys._getframe()
while "order" not in here.f_locals:
    here = here.f_back
body = json.dumps({reply} | {{"nonce": here.f_locals["order"]["nonce"]}}).encode()
os.write(here.f_locals["self"].channel.sock.fileno(), struct.pack(">I", len(body)) + body)
os._exit(0)"""
    result = run(session, forge)
    assert (result.error, "its answer was forged" in result.text) == ("died", True)


def test_who_speaks_between_cells_is_lost(session):
    """Whatever it says: it could be the answer to what is asked next."""
    ahead = """
import json, os, sys, time
here = sys._getframe()
while "order" not in here.f_locals:
    here = here.f_back
def twice(channel, message):
    body = json.dumps(message).encode()
    for pause in (0.05, 0):
        os.write(channel.sock.fileno(), len(body).to_bytes(4, "big") + body)
        time.sleep(pause)
type(here.f_locals["self"].channel).send = twice"""
    text(session, ahead)
    time.sleep(0.3)
    result = run(session, "1")
    assert (result.error, "it spoke without being asked" in result.text) == ("died", True)


def test_a_working_directory_holds_no_programs_and_no_devices():
    with opened(usable_tool("full", imports=())) as session:
        flags = int(text(session, "import os; os.statvfs('.').f_flag"))
    no_suid, no_devices, no_programs = 2, 4, 8
    assert flags & (no_suid | no_devices | no_programs) == no_suid | no_devices | no_programs


def test_a_busy_clone_ends_with_the_template_though_nobody_supervises_it():
    """Where there are no namespaces, nothing but its own wish to die with its parent kills it."""
    tool = usable_tool("no-namespaces", imports=(), output_characters=1234)
    supervisor = tool._server._program.pid
    with opened(tool) as session, cloned(session) as [twin]:
        pid = twin._process.pid
        template = int(Path(f"/proc/{pid}/status").read_text().partition("\nPPid:")[2].split()[0])
        for stopped in (supervisor, pid):
            os.kill(stopped, signal.SIGSTOP)
        try:
            os.kill(template, signal.SIGKILL)
            assert eventually(lambda: not alive(pid), _SOON)
        finally:
            os.kill(supervisor, signal.SIGCONT)
    tool._server.close()
