"""Single protections of a session from the code that shares its process, and of the host from what a session says."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from python_sessions import MODES, alive, cloned, eventually, opened, rest, run, text, usable_tool

from arpo_envs.tools import ToolResult
from arpo_envs.tools.python.launch import ENVIRONMENT


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


def test_a_cell_that_had_to_be_stopped_is_stopped(session):
    text(session, "n = 0")
    pid = session.pid
    run(session, "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\nwhile True: pass", timeout=0.1)
    assert session.pid != pid
    assert eventually(lambda: not alive(pid), 5.0)


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
        assert [text(who, files) for who in (heir, twin, session)] == 3 * ["(True, True)"]


def test_the_environment_holds_nothing_of_the_hosts(session):
    assert text(session, "import os; sorted(os.environ)") == repr(sorted([*ENVIRONMENT, "HOME", "TMPDIR"]))


def test_what_a_cell_makes_is_its_owners_whatever_the_host_masks(session):
    assert text(session, "import os; open('f', 'w').close(); oct(os.stat('f').st_mode & 0o777)") == "'0o600'"


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
import json, os, struct, sys, time
here = sys._getframe()
while "order" not in here.f_locals:
    here = here.f_back
body = json.dumps({reply} | {{"nonce": here.f_locals["order"]["nonce"]}}).encode()
os.write(here.f_locals["self"].channel.sock.fileno(), struct.pack(">I", len(body)) + body)
time.sleep(60)"""
    result = run(session, forge)
    assert (result.error, "its answer was forged" in result.text) == ("died", True)


def test_an_answer_that_is_given_twice_is_not_believed(session):
    twice = """
import json, os, sys
here = sys._getframe()
while "order" not in here.f_locals:
    here = here.f_back
def send(channel, message):
    body = json.dumps(message).encode()
    os.write(channel.sock.fileno(), 2 * (len(body).to_bytes(4, "big") + body))
type(here.f_locals["self"].channel).send = send"""
    result = run(session, twice)
    assert (result.error, "its answer was forged" in result.text) == ("died", True)


def test_who_speaks_between_cells_is_undone(session):
    """Whatever it says: it could be the answer to what is asked next."""
    ahead = """
import json, os, sys, time
here = sys._getframe()
while "order" not in here.f_locals:
    here = here.f_back
def twice(channel, message):
    body = json.dumps(message).encode()
    for pause in (0.5, 0):
        os.write(channel.sock.fileno(), len(body).to_bytes(4, "big") + body)
        time.sleep(pause)
n = 2
type(here.f_locals["self"].channel).send = twice"""
    text(session, "n = 1")
    pid = session.pid
    text(session, ahead)
    undone = "the interpreter did not obey after the last cell (its answer was forged); the state is as before that cell"
    assert run(session, "n = 3") == ToolResult(f"the cell was not run: {undone}", "died")
    assert (text(session, "n"), session.pid != pid) == ("1", True)


def test_what_was_said_before_an_order_is_no_answer_to_it(session, monkeypatch):
    """Even where nobody has to guess the order's nonce."""
    text(session, "n = 1")
    rest(session)
    monkeypatch.setattr(os, "urandom", bytes)
    forged = json.dumps({"text": "forged", "error": None, "nonce": bytes(8).hex()}).encode()
    session._process.channel._buffer += len(forged).to_bytes(4, "big") + forged
    result = run(session, "n = 2")
    assert (result.error, "it spoke without being asked" in result.text) == ("died", True)
    assert text(session, "n") == "1"


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
            assert eventually(lambda: not alive(pid), 5.0)
        finally:
            os.kill(supervisor, signal.SIGCONT)
    tool._server.close()
