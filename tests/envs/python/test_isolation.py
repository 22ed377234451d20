"""Each layer of the isolation alone, then all of them, as root and as an unprivileged user."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from isolation_modes import ALL, ALONE, NONE, SERVER, WITHOUT_NAMESPACES, skip_if_missing
from syscall_headers import X86_64_HEADERS, numbers

from arpo_envs.tools.python.server import isolation
from arpo_envs.tools.python.server.isolation import kernel
from arpo_envs.tools.python.server.isolation.allowlist import verdicts
from arpo_envs.tools.python.server.isolation.report import Layers

HERE = Path(__file__).parent
NOBODY = 65534

Play = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")


@pytest.fixture(scope="module")
def machine() -> isolation.Report:
    return isolation.probe()


@pytest.fixture(scope="module")
def scenarios() -> Iterator["subprocess.Popen[str]"]:
    """The program that plays scenarios; afterwards nothing is left of it, not even a mount."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    program = subprocess.Popen(
        [sys.executable, "-I", str(HERE / "isolation_scenarios.py"), str(SERVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"},
    )
    yield program
    assert _children(program.pid) == [], "a scenario has left processes"
    program.communicate(timeout=30)
    assert program.returncode == 0
    assert Path("/proc/self/mounts").read_text(encoding="utf-8") == mounts


def _children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


@pytest.fixture
def play(scenarios: "subprocess.Popen[str]", machine: isolation.Report, user: int) -> Play:
    """Plays a scenario in a confined process and returns its value; `whole=True` returns all that is known."""

    def run(
        scenario: str, layers: Layers, *, forks: int = 0, generations: int = 0, whole: bool = False, **arguments: Any
    ) -> Any:
        skip_if_missing(machine, layers)
        request = {
            "scenario": scenario,
            "arguments": arguments,
            "layers": asdict(layers),
            "user": user,
            "forks": forks,
            "generations": generations,
        }
        assert scenarios.stdin is not None
        assert scenarios.stdout is not None
        scenarios.stdin.write(json.dumps(request) + "\n")
        scenarios.stdin.flush()
        answer = json.loads(scenarios.stdout.readline())
        assert "defect" not in answer, answer
        if whole:
            return answer
        assert answer["result"] is not None, answer
        assert "value" in answer["result"], answer
        return answer["result"]["value"]

    return run


@pytest.fixture(params=["root", "unprivileged"])
def user(request: pytest.FixtureRequest) -> int:
    if os.geteuid() == 0:
        return 0 if request.param == "root" else NOBODY
    if request.param == "root":
        pytest.skip("root: the tests are not run as root")
    return os.geteuid()


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder of the host in which anyone may write; nothing in it may change."""
    folder = Path(tempfile.mkdtemp(prefix="isolation-outside-"))
    folder.chmod(0o777)
    file = folder / "file"
    file.write_text("the host's")
    file.chmod(0o666)
    yield folder
    file.chmod(0o666)  # Landlock alone does not guard this
    assert file.read_text() == "the host's"
    assert sorted(folder.iterdir()) == [file]
    file.unlink()
    folder.rmdir()


@pytest.fixture
def doors() -> Iterator[dict[str, Any]]:
    """What could be reached on this host: a TCP port, a process, an abstract socket."""
    name = f"isolation-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(b"\0" + name.encode())
        abstract.listen()
        yield {"tcp": server.getsockname()[1], "pid": os.getpid(), "name": name}


# --- each layer alone -------------------------------------------------------------------------------------


def test_namespaces_alone_hide_the_host(play: Play, outside: Path, user: int) -> None:
    tried = play("files", ALONE["namespaces"], outside=str(outside))
    works = {name for name, outcome in tried.items() if outcome == "done"}
    assert works == {"list_root", "list_work", "mkdir", "null", "inside"}, (
        "as root of its namespace; the next layers take that away"
    )
    for name in (
        "stat",
        "read",
        "list",
        "symlink",
        "hard_link",
        "environment",
        "write",
        "overwrite",
        "truncate",
        "unlink",
        "rename",
        "touch",
        "mode",
    ):
        assert tried[name] == "ENOENT", name
    assert tried["library"] == ("EROFS" if user == os.geteuid() else "ENOENT"), "whoever may not read the libraries has none"


def test_namespaces_alone_reach_nobody(play: Play, doors: dict[str, Any], user: int) -> None:
    tried = play("others", ALONE["namespaces"], **doors)
    assert tried["tcp"] == "ENETUNREACH"
    assert tried["abstract"] == "ECONNREFUSED"
    assert tried["dns"] == "no address"
    assert tried["signal"] == "ESRCH"
    assert tried["program"] == "ENOENT"
    seen = play("identity", ALONE["namespaces"])
    assert (seen["user"], seen["group"], seen["groups"]) == (user, user, [])
    assert seen["parent"] == 1
    assert seen["host_name"] == "sandbox"
    assert seen["interfaces"] == ["lo"]
    assert seen["devices"] == ["full", "null", "random", "urandom", "zero"]
    assert not {"etc", "proc", "sys", "home", "var", "run", "bin"} & set(seen["root"])


def test_a_working_directory_of_its_own_is_bounded_by_the_kernel(play: Play) -> None:
    tried = play("exhaust", ALONE["namespaces"])
    assert tried["folder"] == "ENOSPC"
    assert tried["many_files"] == "ENOSPC"


def test_landlock_alone_refuses_files(play: Play, outside: Path, user: int) -> None:
    tried = play("files", ALONE["landlock"], outside=str(outside))
    assert tried["stat"] == "done", "Landlock does not hide; if it does now, the documentation is out of date"
    refused = set(tried) - {"stat", "null", "inside", "hard_link", "rename", "environment", "touch", "mode"}
    assert {name: tried[name] for name in refused} == dict.fromkeys(refused, "EACCES")
    assert {tried["hard_link"], tried["rename"]} <= {"EACCES", "EXDEV", "EPERM"}
    assert tried["environment"] == "EACCES"
    assert (tried["null"], tried["inside"]) == ("done", "done")


def test_landlock_alone_refuses_tcp_signals_and_abstract_sockets(play: Play, doors: dict[str, Any]) -> None:
    tried = play("others", ALONE["landlock"], **doors)
    assert tried["tcp"] == "EACCES"
    assert tried["abstract"] == "EPERM"
    assert (tried["signal"], tried["signal_parent"]) == ("EPERM", "EPERM")
    assert (tried["program"], tried["subprocess"]) == ("EACCES", "EACCES")
    assert tried["mount"] == "EPERM"


def test_the_filter_alone_refuses_network_processes_and_programs(play: Play, doors: dict[str, Any]) -> None:
    answer = play("others", ALONE["seccomp"], whole=True, **doors)
    tried = answer["result"]["value"]
    assert tried.pop("dns") == "no address"
    assert tried.pop("thread") == "RuntimeError"
    assert tried == dict.fromkeys(tried, "EPERM")
    assert answer["asked"] == 0, "only the fork that a server orders is asked for"


def test_the_filter_alone_refuses_every_call_that_is_not_listed(play: Play) -> None:
    here = kernel.architecture()
    header = next((header for header in X86_64_HEADERS if header.exists()), None)
    if header is None or here is None or here.name != "x86_64":
        pytest.skip("the headers of x86_64 are needed, and x86_64")
    known = {name: number for name, number in numbers(header).items() if name not in verdicts()}
    assert len(known) > 180
    tried = play("raw_calls", Layers(False, 0, True, True, True), numbers=known)
    assert tried == dict.fromkeys(known, "EPERM")


def test_the_filter_alone_is_inherited_and_forks_are_asked_for_each_time(play: Play) -> None:
    answer = play("seccomp_mode", ALONE["seccomp"], forks=2, generations=2, whole=True)
    assert answer == {"asked": 2, "status": 0, "result": {"value": 2}}
    refused = play("seccomp_mode", ALONE["seccomp"], forks=1, generations=2, whole=True)
    assert refused["asked"] == 2
    assert refused["result"]["defect"].startswith("PermissionError")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGSYS, -signal.SIGSYS), (signal.SIGSEGV, -signal.SIGSEGV)])
def test_a_process_that_leaves_the_interface_dies(play: Play, number: int, status: int) -> None:
    answer = play("die", Layers(False, 0, True, True, True), whole=True, signal=int(number))
    assert (answer["status"], answer["result"]) == (status, None)


def test_capabilities_alone_are_all_gone(play: Play, user: int) -> None:
    assert play("held_capabilities", ALONE["capabilities"]) == [0, 0, 0]
    seen = play("identity", ALONE["capabilities"])
    assert set(seen["ambient"]) == {0}
    assert (1 in seen["bounding"]) == (user != 0), "who has no capability cannot empty the bounding set"


def test_no_new_privs_alone(play: Play) -> None:
    assert play("no_new_privs", NONE) == 0
    assert play("no_new_privs", Layers(False, 0, False, True, False)) == 1


def test_limits_alone_bound_memory_and_files(play: Play) -> None:
    tried = play("exhaust", NONE)
    assert tried["memory"].endswith("MemoryError")
    assert tried["string"] == "MemoryError"
    assert tried["file"] == "EFBIG"
    assert tried["many_open"] == "EMFILE"


def test_without_layers_the_ways_round_are_open(play: Play, outside: Path) -> None:
    tried = play("ways_round", NONE, outside=str(outside))
    open_ways = ("share", "grow_stack", "set_id", "reserve", "fork")
    assert {name: tried[name] for name in open_ways} == dict.fromkeys(open_ways, "done")
    assert tried["attribute"] in ("ENODATA", "ENOTSUP")
    assert (tried["out_of_band"], tried["peer"]) == ("EBADF", "EBADF")


# --- all layers -------------------------------------------------------------------------------------------

TOGETHER = pytest.mark.parametrize("layers", [ALL, WITHOUT_NAMESPACES], ids=["full", "no-namespaces"])


@TOGETHER
def test_honest_code_works_in_a_fork_of_a_fork(play: Play, layers: Layers, user: int) -> None:
    did = play("work", layers, forks=2, generations=2)
    assert did["solutions"] == ["2", "3"]
    assert did["integral"] == "exp(x)*sin(x)/2 - exp(x)*cos(x)/2"
    assert did["linear"] == [2.0, 3.0]
    assert did["product"] == 300.0**3
    assert did["sorted"] == 2
    assert did["files"] == ["a", "array.npy", "c", "data.db"]
    assert did["mode"] != "0o777", "permissions are changed in name only"
    assert did["magic"] == "NUMPY"
    assert did["read_back"] == 7.0
    assert did["zone"] == "Europe/Paris"
    assert did["shared"] == "EPERM"
    assert did["import"] == ("hidden" if user != os.geteuid() and did["import"] == "hidden" else "done")


@TOGETHER
def test_allowed_calls_are_no_ways_round(play: Play, layers: Layers, outside: Path) -> None:
    answer = play("ways_round", layers, forks=1, generations=1, whole=True, outside=str(outside))
    assert answer["asked"] == 1, "the generation's own fork"
    tried = answer["result"]["value"]
    assert tried.pop("times") in (("EROFS", "EACCES", "EPERM", "ENOENT") if layers.namespaces else ("Pretended", "EACCES"))
    assert tried.pop("attribute") == "ENOTSUP"
    assert tried == dict.fromkeys(tried, "EPERM")


@TOGETHER
def test_nothing_outside_can_be_used_in_a_fork_of_a_fork(
    play: Play, layers: Layers, outside: Path, doors: dict[str, Any]
) -> None:
    before = (outside / "file").stat()
    tried = play("files", layers, forks=2, generations=2, outside=str(outside))
    after = (outside / "file").stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    works = {name for name, outcome in tried.items() if outcome == "done"}
    pretended = {"mode"} if layers.namespaces else {"touch", "mode"}  # accepted, and not done
    assert works == {"null", "inside"} | pretended | (set() if layers.namespaces else {"stat"})
    reached = play("others", layers, forks=2, generations=2, **doors)
    assert "done" not in reached.values()
    assert play("held_capabilities", layers, forks=2, generations=2) == [0, 0, 0]
    assert play("seccomp_mode", layers, forks=2, generations=2) == 2
