"""Code that would run after its answer: between two cells, in snapshots, inside orders that are not cells."""

import contextlib
import time
from pathlib import Path

import pytest
from python_sessions import MODES, cloned, opened, rest, run, text, usable_tool

from arpo_envs import CloneError
from arpo_envs.tools.python import orders

pytestmark = pytest.mark.timeout(120)
"""Ten times what a test takes whose session works on until its deadline."""
BACK = "the state is as before that cell"
WORKED = "it worked on its own instead of obeying"
PATIENCE = 100.0
HELPERS = """
import _signal, gc, json, os, signal, struct, sys, time
ticks = 0
def loop_frame():
    here = sys._getframe()
    while here is not None and "order" not in here.f_locals:
        here = here.f_back
    return here
session = loop_frame().f_locals["self"]
notebook, channel = session.notebook, session.channel
kind, real_send, real_copy, real_settle = type(session), type(channel).send, type(session)._copy, type(notebook)._settle
def answer(text="forged"):
    body = json.dumps({"text": text, "error": None, "nonce": loop_frame().f_locals["order"]["nonce"]}).encode()
    os.write(channel.sock.fileno(), struct.pack(">I", len(body)) + body)
def answer_alone():
    def send_once_not(self, *arguments, **options):
        type(channel).send = real_send
    answer()
    type(channel).send = send_once_not
def spin(*_):
    while True:
        pass
def tick(*_):
    global ticks
    ticks += 1
def take():
    global taken
    taken = bytearray(b"x") * (300 << 20)
"""


@pytest.fixture(scope="module", params=MODES)
def tool(request):
    return usable_tool(request.param, imports=(), memory_mb=512, total_memory_mb=2000)


@pytest.fixture
def session(tool):
    with opened(tool) as session:
        text(session, f"n = 1; open('f', 'w').write('before')\n{HELPERS}")
        rest(session)
        yield session


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def resident(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * 4096 >> 20


# --- honest code ---------------------------------------------------------------------------------------------


def test_a_session_its_checkpoint_a_clone_and_a_snapshot_are_stopped_while_they_have_no_order(session):
    parked = session.park()
    with contextlib.closing(parked), cloned(session) as [twin]:
        text(twin, "1")
        rest(session, twin)
        processes = [session._process, session._spare.process, twin._process, twin._spare.process, parked._process]
        assert None not in processes
        time.sleep(0.05)
        assert {state(process.pid) for process in processes} == {"T"}
        before = [process.processor_time() for process in processes]
        time.sleep(0.3)
        assert [process.processor_time() for process in processes] == before
        assert text(session, "n") == text(twin, "n") == "1"


def test_who_has_had_no_order_yet_is_stopped_as_well(tool):
    with opened(tool) as fresh:
        parked = fresh.park()
        with contextlib.closing(parked), cloned(fresh) as [twin]:
            time.sleep(0.05)
            assert [state(one._process.pid) for one in (parked, twin)] == ["T", "T"]


def test_a_cell_does_not_notice(session):
    text(session, "seen = []; signal.signal(signal.SIGCONT, lambda *_: seen.append(1))\nNone")
    rest(session)
    assert text(session, "seen") == "[]"
    sleeping = "start = time.monotonic(); time.sleep(0.2); seen, time.monotonic() - start >= 0.2"
    assert text(session, sleeping) == "([], True)"


def test_a_large_heap_is_no_offence(session):
    text(session, "a = bytearray(b'x') * (400 << 20); xs = [object() for _ in range(10 ** 6)]; n = 2")
    rest(session)
    assert text(session, "n") == "2"
    with cloned(session) as [twin]:
        assert text(twin, "len(a) >> 20") == "400"


# --- cells that go on after an answer of their own -------------------------------------------------------------

GOING_ON = {
    "computes": "spin()",
    "computes and blocks its signals": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); spin()",
    "computes without Python's loop": "10 ** 10 ** 8",
    "takes memory and computes": "take(); spin()",
    "answers alone and computes": "spin()",
    "writes files and computes": "open('f', 'w').write('spoilt'); spin()",
    "generators": "any(False for _ in iter(int, 1))",
}


@pytest.mark.parametrize("what", GOING_ON.values(), ids=GOING_ON)
def test_a_cell_that_computes_on_is_undone(session, what, monkeypatch):
    monkeypatch.setattr(orders, "OBEYING", PATIENCE)  # what ends it is its processor time
    shown = run(session, f"n = 2\nanswer_alone()\n{what}").text
    assert shown == "forged"
    told = run(session, "n")
    assert told.error == "died"
    assert told.text == f"the cell was not run: the interpreter did not obey after the last cell ({WORKED}); {BACK}"
    assert text(session, "n, open('f').read()") == "(1, 'before')"
    with cloned(session) as [twin]:
        assert text(twin, "n") == "1"


def test_who_sleeps_instead_of_obeying_is_undone_too(session, monkeypatch):
    monkeypatch.setattr(orders, "OBEYING", 1.0)
    assert run(session, "n = 2\nanswer_alone()\ntime.sleep(600)").text == "forged"
    [twin] = session.clone()
    if isinstance(twin, CloneError):
        assert str(twin).endswith(f"{BACK}.")
    else:  # the cell had not been begun
        twin.close()
    rest(session)
    run(session, "n")
    assert text(session, "n") == "1"


@pytest.mark.parametrize("when", ["in the cell", "in a copy"])
def test_memory_that_is_taken_after_the_answer(session, when):
    if when == "in the cell":
        assert run(session, "n = 2\nanswer_alone()\ntake()").text == "forged"
    else:
        greedy = "def greedy(self, order):\n    take()\n    return real_copy(self, order)\nkind._copy = greedy; n = 2\nNone"
        text(session, greedy)
    process = session._process
    rest(session)
    told = run(session, "n")
    assert (told.error, "it took memory instead of obeying" in told.text) == ("died", True), told
    assert text(session, "n") == "1"
    assert resident(session._process.pid) < 200
    assert session._process is not process


# --- orders ----------------------------------------------------------------------------------------------------

WORKING = {
    "in the fork": "def work(self, order):\n    spin()\n    return real_copy(self, order)\nkind._copy = work",
    "before the order is read": "real_obey = kind._obey\nkind._obey = lambda *all: spin() or real_obey(*all)",
    "when it goes on": "def settle(self):\n    real_settle(self)\n    _signal.signal(signal.SIGCONT, lambda *_: spin())\n"
    "type(notebook)._settle = settle",
    "in the rehearsal": "kind._obey = lambda self, order, real=kind._obey: spin() if order['op'] == 'rehearse' "
    "else real(self, order)",
    "in a collection of garbage": "gc.callbacks.append(lambda *_: armed and not loop_frame() and spin())\n"
    "gc.set_threshold(1); armed = True",
    "by an audit hook": "armed = 0\nsys.addaudithook(lambda *_: armed and not loop_frame() and spin())\narmed = 1",
    "in the closing of a file": "fork = session._fork\ndef work():\n    spin()\n    return fork()\nsession._fork = work",
}


@pytest.mark.parametrize("spoil", WORKING.values(), ids=WORKING)
def test_who_works_inside_an_order_is_undone_or_harmless(session, spoil, monkeypatch):
    monkeypatch.setattr(orders, "OBEYING", PATIENCE)
    shown = run(session, f"n = 2\n{spoil}\nNone", timeout=2.0)
    told = run(session, "n")
    if told.error is not None:
        assert WORKED in told.text or "the cell was undone" in told.text, (shown, told)
        assert told.text.endswith(BACK) or told.text.endswith("the state is as before this cell"), (shown, told)
        assert text(session, "n") in "12"


def test_a_seed_is_an_order(session):
    text(session, "session._seed = lambda number: spin()\nNone")
    rest(session)
    session.reseed(3)
    assert run(session, "n").error == "died"


def test_a_clone_is_an_order(session):
    """The order for the checkpoint is obeyed, and the one for the clone is not."""
    text(session, "import os\ncalls, me, n = [], os.getpid(), 2")
    second = "(len(calls), os.getpid()) == (2, me)"
    text(
        session,
        f"def copy(*order):\n    calls.append(1)\n    return spin() if {second} else real_copy(*order)\nkind._copy = copy",
    )
    rest(session)
    [twin] = session.clone()
    assert isinstance(twin, CloneError), twin
    assert text(session, "n") == "2"  # its checkpoint has taken its place


# --- timers and handlers ---------------------------------------------------------------------------------------

TIMERS = {
    "setitimer": "_signal.setitimer(0, 0.01, 0.01); signal.setitimer = lambda *_: None",
    "setitimer of the other module": "_signal.setitimer(0, 0.01, 0.01); signal.setitimer = _signal.setitimer = lambda *_: None",
    "a timer of used time": "signal.signal(signal.SIGVTALRM, tick); _signal.setitimer(1, 0.001, 0.001); "
    "signal.setitimer = _signal.setitimer = None",
    "alarm": "_signal.alarm(1); signal.alarm = signal.setitimer = None",
    "the notebook's own": "type(notebook)._settle = lambda self: None; _signal.setitimer(0, 0.01, 0.01)",
    "its names": "sys.modules[type(notebook).__module__] = None; signal.ITIMER_REAL = 99; _signal.setitimer(0, 0.01, 0.01)",
}


@pytest.mark.parametrize("spoil", TIMERS.values(), ids=TIMERS)
def test_no_handler_runs_between_two_cells_nor_in_a_snapshot(session, spoil):
    run(session, f"{spoil}\n_signal.signal(signal.SIGALRM, tick)\nticks = 0\nNone")
    rest(session)
    time.sleep(0.1)
    process = session._process
    used = process.processor_time()
    time.sleep(0.4)
    assert process.processor_time() == used
    parked = session.park()
    with contextlib.closing(parked), cloned(parked) as [twin]:
        time.sleep(0.1)
        used = parked._process.processor_time()
        time.sleep(0.4)
        assert parked._process.processor_time() == used
        assert int(text(twin, "ticks")) < 20
    assert int(text(session, "ticks")) < 20


def test_no_timer_is_set_any_more_when_an_order_comes(session):
    watch = """
seen, obey = [], kind._obey
def watching(self, order):
    seen.extend(_signal.getitimer(timer) for timer in range(3))
    return obey(self, order)
kind._obey = watching
for timer in range(3):
    _signal.setitimer(timer, 60, 60)"""
    text(session, watch)
    rest(session)
    assert text(session, "set(seen), len(seen) > 3") == "({(0.0, 0.0)}, True)"


SPOILT = [
    "signal.setitimer = signal.signal = signal.pthread_sigmask = None",
    "os.close = os.dup2 = os.open = os.chdir = os.fstat = os._exit = os.scandir = None",
    "json.dumps = json.loads = json.JSONDecoder = json.JSONEncoder = json.decoder.scanner = json.encoder.c_make_encoder = None",
    "json.JSONDecoder.decode = json.JSONDecoder.raw_decode = json.JSONEncoder.encode = json.JSONEncoder.iterencode = None",
    "struct.Struct = struct.pack = None; time.monotonic = None; import select; select.poll = None",
    "import socket; socket.socket.recvmsg = socket.socket.sendmsg = socket.socket.close = socket.socket.fileno = None",
    "import socket; socket.SOL_SOCKET = socket.SCM_RIGHTS = socket.MSG_NOSIGNAL = socket.MSG_CMSG_CLOEXEC = None",
    "import array; array.array = None",
    "import fcntl; fcntl.fcntl = None; import stat; stat.S_ISREG = stat.S_ISDIR = stat.S_ISLNK = stat.S_ISCHR = None",
    "import tempfile; tempfile.tempdir = 3; os.environ = None; sys.path = None",
    "import contextlib; contextlib.suppress = contextlib.contextmanager = None",
    "sys.settrace = sys.setprofile = sys.getrecursionlimit = sys.setrecursionlimit = None",
    "import ctypes; ctypes.CDLL = ctypes.get_errno = None; signal.SIGKILL = 0",
    "import linecache, traceback; linecache.cache = traceback.format_exception_only = None; import errno; errno.EACCES = None",
    "import mmap; mmap.mmap = None",
]


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_a_cell_replaces_spoils_nothing_of_the_sessions_own(session, spoil):
    assert run(session, f"{spoil}\nn = 2\nNone").error is None
    rest(session)
    assert session._spare.process is not None
    with cloned(session) as [twin]:
        assert text(twin, "n") == text(session, "n") == "2"
        assert text(twin, "n") == "2"
