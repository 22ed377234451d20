"""What does not need a confined session: probing and its report, the private root, the guardian, notifications."""

import errno
import json
import os
import select
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from isolation_modes import ALONE, SERVER, skip_if_missing

from arpo_envs.tools.python.server import isolation
from arpo_envs.tools.python.server.isolation import report
from arpo_envs.tools.python.server.isolation.reasons import Facts, reason
from arpo_envs.tools.python.server.isolation.report import Layers, Row

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")


@pytest.fixture(scope="module")
def machine() -> isolation.Report:
    return isolation.probe()


def test_what_python_needs_is_listed_and_exists() -> None:
    readable = isolation.python_paths()
    paths = readable.paths
    assert all(os.path.exists(path) for path in paths)
    assert all(os.path.isdir(path) for path in (*readable.folders, *readable.hidden))
    for module in (os, json, numpy):
        assert any(str(module.__file__).startswith(path + "/") for path in paths), module
    assert not {"/", "/usr", "/etc", "/home", "/root", "/tmp", "/var"} & set(paths)
    assert not any(str(SERVER).startswith(path + "/") for path in paths if "site-packages" not in path)


def test_probing_changes_nothing() -> None:
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    found = isolation.probe()
    assert Path("/proc/self/mounts").read_text(encoding="utf-8") == mounts
    names = [row.name for row in found.rows()]
    assert set(names) >= {*report.NAMESPACES, *report.MINIMUM, report.LANDLOCK, report.OWN_MOUNTS}
    assert all(row.what for row in found.rows())
    assert all(row.detail for row in found.rows() if not row.active)


def _found(*missing: str, landlock: int = 7) -> isolation.Report:
    names = (*report.NAMESPACES, *report.MINIMUM, report.LANDLOCK, report.OWN_MOUNTS)
    return report.from_rows((Row(name, name not in missing, "what", f"why {name}") for name in names), landlock)


def test_the_minimum_is_the_filter_and_one_way_to_keep_files_away() -> None:
    assert _found().missing_minimum() == []
    assert _found().layers == Layers(True, 7, True, True, True, own_mounts=True)
    assert _found("private root").layers.own_mounts is False
    assert _found("mounts per session").missing_minimum() == []
    assert _found("mounts per session").layers == Layers(True, 7, True, True, True, own_mounts=False)
    assert _found("Landlock").missing_minimum() == []
    assert _found("Landlock").layers.landlock == 0
    assert _found("user namespace").missing_minimum() == []
    assert _found("private root").layers.namespaces is False
    assert _found("supervised forks").layers.seccomp is False
    assert _found("supervised forks").missing_minimum() == ["supervised forks (what): why supervised forks"]
    both = _found("Landlock", "process namespace").missing_minimum()
    assert [text.partition(" (")[0] for text in both] == ["Landlock", "process namespace"]
    same = report.from_rows((Row(name, False, "what", "why") for name in report.MINIMUM + report.NAMESPACES + ("Landlock",)), 0)
    assert len(same.missing_minimum()) == 1, "one reason is given once"
    for kept in ((), ("user namespace",), ("Landlock",), ("mounts per session",)):
        assert _found(*kept).unkept() == []
    [unkept] = _found("Landlock", "mounts per session").unkept()
    assert unkept.startswith("Landlock is missing: ")
    assert unkept.endswith(". why Landlock")


_LACKING = """
import ctypes, json, struct, sys
sys.path.insert(0, sys.argv[1])
from server.isolation import capabilities, kernel, namespaces, probe
from server.isolation.bpf import ALLOW, assemble, errno_verdict
lacking, code = sys.argv[2], int(sys.argv[3])
if lacking == "limit":
    namespaces.separate(namespaces.USER)
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")
else:
    here = kernel.architecture()
    program = assemble(here, {here.numbers[lacking]: errno_verdict(code)}, ALLOW)
    buffer = ctypes.create_string_buffer(program, len(program))
    capabilities.forbid_new_privileges()
    kernel.call("seccomp", 1, 0, struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer)))
found = probe()
print(json.dumps([{row.name: row.detail for row in found.rows() if not row.active}, found.missing_minimum()]))
"""


@pytest.mark.parametrize(
    ("lacking", "code", "row", "expected"),
    [
        ("limit", 0, "user namespace", "ENOSPC). user.max_user_namespaces is 0"),
        ("unshare", errno.EPERM, "user namespace", "EPERM). This looks like a container"),
        ("open_tree", errno.ENOSYS, "private root", "ENOSYS). It needs Linux 5.12"),
        ("setns", errno.EPERM, "mounts per session", "EPERM). This looks like a container"),
        ("landlock_create_ruleset", errno.ENOSYS, "Landlock", "ENOSYS). It needs Linux 5.13"),
        ("landlock_create_ruleset", errno.EPERM, "Landlock", "EPERM). A filter is already in place"),
        ("seccomp", errno.EPERM, "system call filter", "EPERM). A filter is already in place"),
    ],
)
def test_a_machine_that_lacks_something_is_told_what_and_why(
    machine: isolation.Report, lacking: str, code: int, row: str, expected: str
) -> None:
    if not (machine.layers.namespaces and machine.layers.landlock and machine.layers.seccomp):
        pytest.skip("full machine: this one lacks something already")
    command = [sys.executable, "-I", "-c", _LACKING, str(SERVER), lacking, str(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    inactive, missing = json.loads(done.stdout)
    assert expected in inactive.pop(row)
    assert set(inactive.values()) <= {f"It needs the {name}." for name in (row, "private root")}
    assert len(missing) == (2 if row == "system call filter" else 0)


PLAIN = Facts(
    "6.1.0",
    filtered=False,
    container=False,
    namespaces_allowed=1,
    unprivileged_namespaces=None,
    apparmor=None,
    security_modules=None,
)


@pytest.mark.parametrize(
    ("name", "code", "changes", "expected"),
    [
        ("user namespace", 28, {"namespaces_allowed": 0}, "sysctl user.max_user_namespaces=10000"),
        ("user namespace", 1, {"unprivileged_namespaces": 0}, "sysctl kernel.unprivileged_userns_clone=1"),
        ("mount namespace", 13, {"apparmor": 1}, "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
        ("user namespace", 1, {"filtered": True}, "seccomp=unconfined"),
        ("private root", 1, {"container": True}, "systempaths=unconfined"),
        ("private root", 38, {}, "Linux 5.12"),
        ("network namespace", 22, {}, "built without it"),
        ("user namespace", 1, {}, "security policy"),
        ("Landlock", 38, {}, "Linux 5.13"),
        ("Landlock", 95, {"security_modules": "capability,yama"}, "`lsm=` (now: capability,yama)"),
        ("Landlock", 1, {"filtered": True}, "Docker since 23.0"),
        ("supervised forks", 16, {}, "Another supervisor"),
        ("system call filter", 22, {}, "Linux 5.5"),
    ],
)
def test_reasons_name_the_likely_cause_and_the_remedy(name: str, code: int, changes: dict[str, Any], expected: str) -> None:
    text = reason(name, code, replace(PLAIN, **changes))
    assert text.startswith(os.strerror(code))
    assert expected in text


_ROOTED = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from server import isolation
folder = sys.argv[2]
os.close(isolation.enter_namespaces(isolation.PrivateRoot([f"{folder}/link/inner", f"{folder}/file", f"{folder}/real"])))
def outcome(action):
    try:
        return action()
    except OSError as error:
        return error.strerror
print(json.dumps({
    "by_link": outcome(lambda: open(f"{folder}/link/inner/text").read()),
    "by_name": outcome(lambda: open(f"{folder}/real/inner/text").read()),
    "file": outcome(lambda: open(f"{folder}/file").read()),
    "other": outcome(lambda: open(f"{folder}/other").read()),
    "write": outcome(lambda: open(f"{folder}/file", "w")),
    "link": outcome(lambda: os.readlink(f"{folder}/link")),
    "above": sorted(os.listdir(folder)),
    "proc": os.path.exists("/proc"),
}))
"""


def test_a_private_root_keeps_names_and_links(machine: isolation.Report, tmp_path: Path) -> None:
    skip_if_missing(machine, ALONE["namespaces"])
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "real" / "inner" / "text").write_text("inner")
    (tmp_path / "file").write_text("a file")
    (tmp_path / "other").write_text("another")
    (tmp_path / "link").symlink_to("real")
    command = [sys.executable, "-I", "-c", _ROOTED, str(SERVER), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout) == {
        "by_link": "inner",
        "by_name": "inner",
        "file": "a file",
        "other": "No such file or directory",
        "write": "Read-only file system",
        "link": "real",
        "above": ["file", "link", "real"],
        "proc": False,
    }
    assert (tmp_path / "file").read_text() == "a file"


_WITHIN = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from server import isolation
folder = sys.argv[2]
if os.geteuid() == 0:
    os.setgroups([4321])
root = isolation.PrivateRoot([folder], [f"{folder}/packages/allowed"], [f"{folder}/packages"])
processes = isolation.enter_namespaces(root)
def written(folder):
    try:
        open(f"{folder}/new", "w").close()
    except OSError as error:
        return error.strerror
    return "done"
with open(os.open("self/mountinfo", os.O_RDONLY, dir_fd=processes)) as file:
    mounts = [line.split() for line in file]
print(json.dumps({
    "written": {place: written(place) for place in ("/", folder, f"{folder}/packages", f"{folder}/packages/allowed")},
    "seen": os.listdir(f"{folder}/packages"),
    "closed": oct(os.stat(root.work).st_mode & 0o777),
    "groups": os.getgroups() if os.geteuid() == 0 else [],  # only root has groups worth losing
    "twice": len(mounts) - len({mount[4] for mount in mounts}),
    "processes": [mount[4] for mount in mounts if "proc" in mount[mount.index("-") :]],
}))
"""


def test_a_private_root_is_read_only_and_nothing_lies_beneath_it(machine: isolation.Report, tmp_path: Path) -> None:
    skip_if_missing(machine, ALONE["namespaces"])
    for name in ("allowed", "forbidden"):
        (tmp_path / "packages" / name).mkdir(parents=True)
    command = [sys.executable, "-I", "-c", _WITHIN, str(SERVER), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    found = json.loads(done.stdout)
    assert set(found.pop("written").values()) == {"Read-only file system"}
    assert found == {"seen": ["allowed"], "closed": "0o111", "groups": [], "twice": 0, "processes": []}


_GUARDED = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from server import isolation
os.close(isolation.enter_namespaces(isolation.PrivateRoot(())))
if os.fork() == 0:
    time.sleep(600)
print("inside", flush=True)
{}
"""


def _guarded(machine: isolation.Report, ending: str) -> "subprocess.Popen[str]":
    skip_if_missing(machine, ALONE["namespaces"])
    program = subprocess.Popen(
        [sys.executable, "-I", "-c", _GUARDED.format(ending), str(SERVER)], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "inside\n"
    return program


@pytest.mark.parametrize(
    ("ending", "status"), [("os._exit(7)", 7), ("os._exit(0)", 0), ("import ctypes; ctypes.string_at(0)", 139)]
)
def test_when_process_1_ends_all_end_and_the_guardian_says_how(machine: isolation.Report, ending: str, status: int) -> None:
    with _guarded(machine, ending) as program:
        assert program.wait(timeout=20) == status
        assert program.stdout is not None
        assert program.stdout.read() == "", "nobody holds the pipe any more"


def test_when_the_guardian_dies_all_die(machine: isolation.Report) -> None:
    with _guarded(machine, "time.sleep(600)") as program:
        program.kill()
        assert program.stdout is not None
        assert select.select([program.stdout], [], [], 10.0)[0], "the pipe ends when the last process that holds it is dead"
        assert program.stdout.read() == ""


_DYING = """
import json, os, select, signal, socket, sys
sys.path.insert(0, sys.argv[1])
from server.forking import Forker
from server.isolation import capabilities, notifications, seccomp
ours, theirs = socket.socketpair()
child = os.fork()
if not child:
    fork = Forker()
    capabilities.forbid_new_privileges()
    socket.send_fds(theirs, [b" "], [seccomp.install_session_filter()])
    fork()
    os._exit(0)
_, (listener,), _, _ = socket.recv_fds(ours, 1, 1)
select.select([listener], [], [])
if sys.argv[2] == "before":
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    result = [notifications.receive(listener)]
else:
    asked = notifications.receive(listener)
    result = [asked.pid == child, notifications.is_valid(listener, asked.id)]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    result += [notifications.is_valid(listener, asked.id), notifications.answer(listener, asked.id, allow=True)]
print(json.dumps(result))
"""


@pytest.mark.parametrize(("when", "expected"), [("before", [None]), ("after", [True, True, False, False])])
def test_a_process_may_die_while_it_is_judged(machine: isolation.Report, when: str, expected: list[Any]) -> None:
    skip_if_missing(machine, ALONE["seccomp"])
    done = subprocess.run(
        [sys.executable, "-I", "-c", _DYING, str(SERVER), when], capture_output=True, text=True, timeout=30, check=True
    )
    assert json.loads(done.stdout) == expected
