"""The server's life: nothing outlives it, its host or its users, and whoever had a session is told."""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from python_sessions import MODES, alive, cloned, descendants, eventually, open_session, opened, rest, run, text, usable_tool

from arpo_envs import CloneError
from arpo_envs.errors import ToolFault
from arpo_envs.tools.python import PythonTool, close_idle_server
from arpo_envs.tools.python.server.workdirs import remove_tree

HOST = Path(__file__).with_name("life_host.py")
PATIENCE = 60.0
"""Seconds for what takes one on an idle machine."""


@pytest.fixture(scope="module", params=MODES)
def tool(request):
    return usable_tool(request.param, imports=())


@pytest.fixture
def session(tool):
    with opened(tool) as session:
        yield session


def pid_of(session) -> int:
    return session._process.pid


def gone(*pids: int) -> bool:
    return eventually(lambda: not any(alive(pid) for pid in pids), PATIENCE)


def folder_of(tool, session) -> Path | None:
    if tool._server.namespaces:
        return None
    where = text(session, "import os; os.getcwd().encode().hex()").strip("'")
    return Path(bytes.fromhex(where).decode()).parents[2]


def census() -> dict[str, int]:
    gc.collect()
    return {"descriptors": len(os.listdir("/proc/self/fd")), "processes": len(descendants(os.getpid()))}


@pytest.fixture(autouse=True)
def _no_idle_server():
    """A server that an earlier test left would end in the middle of a census."""
    close_idle_server()
    gc.collect()


def settled() -> dict[str, int]:
    """Returns what there is when what was ended is gone."""
    found = census()
    return settled() if eventually(lambda: census() != found, 0.2) else found


def settles(before: dict[str, int]) -> bool:
    return eventually(lambda: census() == before, PATIENCE)


# --- the host ----------------------------------------------------------------------------------------------


@dataclass
class Host:
    """A host in another process, with everything below it."""

    process: "subprocess.Popen[str]"
    folder: Path | None
    server: int
    below: set[int]

    def says(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def leaves_nothing(self) -> bool:
        no_folder = eventually(lambda: self.folder is None or not self.folder.exists(), PATIENCE)
        return gone(*self.below) and no_folder


@contextlib.contextmanager
def host(mode: str, scenario: str) -> Iterator[Host]:
    command = [sys.executable, "-W", "error", str(HOST), mode, scenario]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            first = json.loads(process.stdout.readline())
            if "unavailable" in first:
                pytest.skip(f"mode {mode}: {first['unavailable']}")
            folder = Path(first["folder"]) if first["folder"] else None
            assert folder is None or folder.is_dir()
            below = descendants(process.pid)
            assert len(below) >= 5  # the server and four sessions at least
            yield Host(process, folder, first["server"], below)
        finally:
            process.kill()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scenario", ["idle", "busy"])
def test_nothing_outlives_a_host_that_is_killed(mode, scenario):
    with host(mode, scenario) as it:
        it.says()
        it.below |= descendants(it.process.pid)  # with the checkpoint of the cell that is running
        it.process.kill()
        assert it.process.wait(PATIENCE) == -signal.SIGKILL
        assert it.leaves_nothing()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("scenario", "status"), [("idle", 0), ("closed", 0), ("raises", 1), ("busy", 0)])
def test_nothing_outlives_a_host_that_ends(mode, scenario, status):
    with host(mode, scenario) as it:
        it.process.stdin.close()
        assert it.process.wait(PATIENCE) == status
        assert it.leaves_nothing()


@pytest.mark.parametrize("mode", MODES)
def test_a_fork_of_the_host_uses_and_ends_nothing_of_it(mode):
    with host(mode, "forks") as it:
        found = it.says()
        assert found["call"] == ["ServerLost", "The interpreter was lost: its server has died, or belongs to another process."]
        assert found["clone"] == ["CloneError", "CloneError"]
        assert found["own"] == ["42", True]
        assert found["afterwards"] == ["4"] * 4
        assert found["same server"] is True


@pytest.mark.parametrize("mode", MODES)
def test_without_descriptors_there_is_a_clear_error_and_no_harm(mode):
    with host(mode, "exhausts") as it:
        found = it.says()
        assert found["made"] < 20
        assert len(found["errors"]) == 1
        assert "ulimit -n" in found["errors"][0]
        assert found["result"][0] == "limit"
        assert "ulimit -n" in found["result"][1]
        assert found["after"] == "2"


def test_a_tool_in_another_process_has_its_own_server():
    with host("auto", "pickles") as it:
        assert it.says() == {"answer": "42", "own": True}


def test_what_is_left_when_all_are_killed_at_once_is_found_later():
    with host("no-namespaces", "idle") as it:
        it.says()
        os.kill(it.server, signal.SIGKILL)
        it.process.kill()
        it.process.wait(PATIENCE)
        assert gone(*it.below)
        assert it.folder.exists()  # nobody was left to remove it
    usable_tool("no-namespaces", imports=(), disk_mb=63)  # a new server
    assert not it.folder.exists()


# --- the server --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["program", "child", "grandchild"])
def test_when_the_server_is_killed_all_sessions_end_and_say_so(tool, which):
    with opened(tool) as session, cloned(session, 2) as [child, other]:
        text(session, "open('f', 'w').write('x')")
        program, folder = tool._server._program.pid, folder_of(tool, session)
        sessions = [pid_of(who) for who in (session, child, other)]
        chain = [_parent(sessions[0])]  # from below, as beside sessions there may be a checkpoint that is just ending
        while chain[0] != program:  # supervisor and template, of which one is the program without namespaces
            chain.insert(0, _parent(chain[0]))
        everything = {program, *descendants(program)}
        os.kill([*chain, chain[-1]][["program", "child", "grandchild"].index(which)], signal.SIGKILL)
        assert gone(*sessions, *everything)
        for who in (session, child):
            with pytest.raises(ToolFault, match="its server has died"):
                run(who, "1")
        assert [type(twin) for twin in other.clone(2)] == [CloneError, CloneError]
        session.reseed(1)
        assert folder is None or not folder.exists()
        with opened(tool) as new:  # the next one starts another server
            assert text(new, "6 * 7") == "42"
            assert tool._server._program.pid != program
            with pytest.raises(ToolFault, match="its server has died"):
                run(session, "1")


def outcome(session: Any, cell: str) -> str | None:
    """Returns how a cell ended."""
    try:
        return run(session, cell, timeout=100).error
    except ToolFault:
        return "fault"


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def test_a_server_killed_during_a_cell(tool):
    with opened(tool) as session:
        results: list[Any] = []
        cell = threading.Thread(target=lambda: results.append(outcome(session, "import time; time.sleep(100)")))
        cell.start()
        os.kill(tool._server._program.pid, signal.SIGKILL)
        cell.join(PATIENCE)
        assert results == ["fault"]


def test_a_server_stays_for_the_next_episode_until_it_is_ended_or_another_one_starts(tool):
    mine = PythonTool(layers=tool.settings.layers, imports=(), disk_mb=61)
    session = open_session(mine)
    program, folder = mine._server._program.pid, folder_of(mine, session)
    del mine
    gc.collect()
    assert text(session, "1") == "1"  # a session uses it too
    [child] = session.clone()
    session.close()
    del session
    gc.collect()
    assert text(child, "1") == "1"
    everything = {program, *descendants(program)}
    del child
    gc.collect()
    assert not eventually(lambda: not alive(program), 0.2)
    with opened(PythonTool(layers=tool.settings.layers, imports=(), disk_mb=61)) as another:
        assert another._server._program.pid == program
    del another
    gc.collect()
    with opened(tool):  # now the last one is another one
        gc.collect()
        assert gone(*everything)
    assert folder is None or not folder.exists()


# --- what is left ------------------------------------------------------------------------------------------


def _mistreat(session) -> None:
    """Everything that makes, replaces or loses processes."""
    run(session, "x = 1; open('f', 'w').write('x')")
    run(session, "1 / 0")
    run(session, "while True: pass", timeout=0.05)
    run(session, "import os; os._exit(0)")
    twins = session.clone(3)
    run(twins[0], "import os; os._exit(0)")
    run(twins[1], "import os\nfor f in range(3, 64):\n    try: os.close(f)\n    except OSError: pass")
    for twin in twins[:2]:
        twin.close()  # and the third is forgotten


def test_nothing_is_left_of_sessions(tool):
    with opened(tool) as kept:
        with opened(tool) as session:
            _mistreat(session)
        before = settled()
        for _ in range(3):
            with opened(tool) as session:
                _mistreat(session)
        assert settles(before) or census() == before, (before, census())
        assert text(kept, "1") == "1"


def test_a_forgotten_session_ends(tool):
    session = open_session(tool)
    pid = pid_of(session)
    assert alive(pid)
    del session
    gc.collect()
    assert gone(pid)


def test_close_in_the_middle_of_a_cell(tool):
    with opened(tool) as kept:
        text(kept, "1")
        rest(kept)
        before = settled()
        session = open_session(tool)
        [child] = session.clone()
        results: list[Any] = []
        cell = threading.Thread(target=lambda: results.append(outcome(session, "import time; time.sleep(100)")))
        cell.start()
        eventually(lambda: len(descendants(os.getpid())) >= before["processes"] + 3)  # the checkpoint is made
        session.close()
        cell.join(PATIENCE)
        assert results == ["fault"]
        assert text(child, "1") == text(kept, "1") == "1"
        rest(kept)
        child.close()
        assert settles(before)


@pytest.mark.parametrize("movable", [True, False], ids=["movable", "immovable"])
def test_a_folder_is_removed_as_far_as_can_be_and_not_tried_for_ever(movable, tmp_path, monkeypatch):
    rename = os.rename

    def rename_as_a_user(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if not movable or not os.stat(source, dir_fd=src_dir_fd).st_mode & 0o200:  # the kernel does not ask this of root
            raise PermissionError
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", rename_as_a_user)
    deep = tmp_path / "top" / "sessions" / "family" / "work" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "f").write_text("x")
    (deep / "link").symlink_to(tmp_path)
    (tmp_path / "kept").write_text("x")
    for folder in (deep.parent, deep.parents[2], deep.parents[3]):
        folder.chmod(0o111)
    remove_tree(str(tmp_path / "top"))
    assert (tmp_path / "top").exists() is not movable
    assert (tmp_path / "kept").exists()


# --- threads -----------------------------------------------------------------------------------------------


def test_sessions_run_at_the_same_time(tool):
    with opened(tool) as sleeper, opened(tool) as session:
        cell = threading.Thread(target=outcome, args=(sleeper, "import time; time.sleep(100)"))
        cell.start()
        with cloned(session) as [child]:
            assert text(child, "6 * 7") == text(session, "6 * 7") == "42"
        assert cell.is_alive()
        sleeper.close()
        cell.join(PATIENCE)
        assert not cell.is_alive()


def test_many_sessions_start_at_the_same_time(tool):
    """Each passes a descriptor on, and the kernel refuses that to who may have fewer than are on their way."""

    def start(number: int) -> str:
        with opened(tool, seed=number) as session:
            return text(session, "6 * 7")

    with ThreadPoolExecutor(32) as threads:
        assert list(threads.map(start, range(120))) == ["42"] * 120


def test_many_threads_each_with_its_sessions(tool):
    found: dict[int, list[str]] = {}

    def work(number: int) -> None:
        seen = found[number] = []
        with opened(tool, seed=number) as session:
            text(session, f"def g():\n    yield from range({number * 100}, 10**9)\nit = g()")
            for _ in range(4):
                seen.append(text(session, "next(it)"))
                run(session, "import os; next(it); os._exit(0)")
                with cloned(session, 2) as twins:
                    seen += [text(twin, "next(it)") for twin in twins]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == {n: [str(n * 100 + at) for step in range(4) for at in (step, step + 1, step + 1)] for n in range(5)}


def test_one_session_called_by_many_threads_runs_one_cell_at_a_time(session):
    text(session, "n = 0")

    def work() -> None:
        for _ in range(5):
            text(session, "m = n; import time; time.sleep(0.001); n = m + 1")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert text(session, "n") == "20"


def test_tools_that_open_at_the_same_time_share_one_server(tool):
    tools = [PythonTool(layers=tool.settings.layers, imports=(), disk_mb=62) for _ in range(4)]
    sessions: list[Any] = []
    threads = [threading.Thread(target=lambda t=t: sessions.append(open_session(t))) for t in tools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len({t._server._program.pid for t in tools}) == 1
    for session in sessions:
        session.close()
