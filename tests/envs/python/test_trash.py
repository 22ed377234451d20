"""What sessions leave is removed beside the supervisor, which answers everybody else meanwhile.

With mounts per session there is nothing to remove: the kernel lets go of a file system with its last user.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from python_sessions import alive, cloned, descendants, eventually, open_session, opened, run, text, usable_tool

from arpo_envs.errors import ToolFault

PATIENCE = 120.0
MANY = 300
MAKE_MANY = f"import os\nfor number in range({MANY}):\n    os.mkdir(str(number))"
NICE = 10


def _tool(mode):
    return usable_tool(mode, imports=(), inodes=1_000_000, disk_mb=1000)


@pytest.fixture
def tool():
    tool = _tool("no-namespaces")
    yield tool
    tool._server.close()


def _nice(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16])
    return 0


def _remover(tool) -> int:
    """Returns the one process whose priority is so low."""
    here = os.nice(0)
    [pid] = [pid for pid in descendants(tool._server._program.pid) if _nice(pid) == here + NICE]
    return pid


@contextlib.contextmanager
def _standing_still(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _folder(session) -> Path:
    """Returns the server's folder."""
    where = text(session, "import os; os.getcwd().encode().hex()").strip("'")
    return next(folder for folder in Path(bytes.fromhex(where).decode()).parents if folder.name.startswith("arpo-python-"))


def _mode(path: Path) -> int | None:
    with contextlib.suppress(FileNotFoundError):  # a family's: its last process has just ended
        return path.stat().st_mode & 0o777
    return None


def _trash(folder: Path) -> Path:
    """Returns where removed folders go: the one place beside the families that is not closed."""
    sessions = folder / "sessions"
    sessions.chmod(0o511)
    try:
        [trash] = [path for path in sessions.iterdir() if _mode(path) == 0o700]
    finally:
        sessions.chmod(0o111)
    return trash


def _entries(folder: Path) -> int:
    return sum(len(folders) + len(files) for _, folders, files in os.walk(folder))


@pytest.mark.parametrize("end", ["closed", *(pytest.param(end, marks=pytest.mark.slow) for end in ("crashed", "cloned"))])
def test_others_are_answered_before_what_a_session_left_is_removed(tool, end):
    with opened(tool) as peer:
        folder = _folder(peer)
        with _standing_still(_remover(tool)):
            session = open_session(tool)
            text(session, MAKE_MANY)
            if end == "crashed":
                run(session, "import os; os._exit(1)")
            if end == "cloned":
                with cloned(session):
                    pass
            session.close()
            with cloned(peer) as [twin], opened(tool) as newcomer:
                assert [text(who, "6 * 7") for who in (peer, twin, newcomer)] == ["42"] * 3
            assert eventually(lambda: _entries(_trash(folder)) >= MANY * (2 if end == "cloned" else 1), PATIENCE)
            assert text(peer, "6 * 7") == "42"
        assert eventually(lambda: _entries(_trash(folder)) == 0, PATIENCE)


def test_with_mounts_per_session_there_is_nothing_to_remove():
    tool = _tool("full")
    with opened(tool) as peer:
        session = open_session(tool)
        text(session, MAKE_MANY)
        session.close()
        assert run(peer, "6 * 7", timeout=1.0).text == "42"
    assert not [pid for pid in descendants(tool._server._program.pid) if _nice(pid) == os.nice(0) + NICE], "there is no remover"
    tool._server.close()


def test_a_remover_that_was_killed_is_replaced_and_does_the_rest(tool):
    with opened(tool) as peer:
        folder = _folder(peer)
        first = _remover(tool)
        os.kill(first, signal.SIGKILL)
        assert eventually(lambda: not alive(first))
        for _ in range(2):  # the first one may be moved away before the bell is found to be broken
            with opened(tool) as session:
                text(session, "open('f', 'w').write('x')\nimport os; os.mkdir('d')")
        assert eventually(lambda: _entries(_trash(folder)) == 0)
        assert _remover(tool) != first
        assert text(peer, "6 * 7") == "42"


def test_a_remover_that_is_busy_ends_with_the_server():
    tool = usable_tool("no-namespaces", imports=(), inodes=1_000_000, disk_mb=1000)
    pid = _remover(tool)
    with _standing_still(pid):
        os.kill(tool._server._program.pid, signal.SIGKILL)
        assert eventually(lambda: not alive(pid), 5.0)
    tool._server.close()


def test_the_trash_ends_with_the_server(tool):
    with opened(tool) as session:
        folder, remover = _folder(session), _remover(tool)
        with _standing_still(remover):
            text(session, MAKE_MANY)
            session.close()
            assert eventually(lambda: _entries(_trash(folder)) >= MANY, PATIENCE)
            tool._server.close()
            assert eventually(lambda: not alive(remover), PATIENCE)
            assert not folder.exists()


def test_the_trash_of_a_server_that_was_killed_is_removed_by_its_host(tool):
    with opened(tool) as session, opened(tool) as peer:
        folder, remover = _folder(session), _remover(tool)
        with _standing_still(remover):
            text(session, MAKE_MANY)
            session.close()
            assert eventually(lambda: _entries(_trash(folder)) >= MANY, PATIENCE)
            os.kill(tool._server._program.pid, signal.SIGKILL)
            assert eventually(lambda: not alive(remover), PATIENCE)
            with pytest.raises(ToolFault):
                run(peer, "1")
            assert eventually(lambda: not folder.exists(), PATIENCE)
