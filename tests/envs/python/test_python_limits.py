"""What a cell may not do to its own session: time, death, forged answers, memory, numbers, disk, output."""

import pytest
from python_sessions import MODES, alive, cloned, eventually, opened, run, text, usable_tool

from arpo_envs import CloneError
from arpo_envs.tools.python import PythonSession

BLOCKED = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\n"
"""Nothing the session's own process can do will stop this cell."""
ENDLESS = "while True:\n    pass"
BACK = "the state is as before this cell"
INCLUDED = "deleted ones that are still in use included"


@pytest.fixture(scope="module", params=MODES)
def tool(request):
    return usable_tool(request.param, imports=("numpy",), memory_mb=512, disk_mb=2, inodes=32, output_characters=400)


@pytest.fixture
def session(tool):
    with opened(tool) as session:
        yield session


# --- time --------------------------------------------------------------------------------------------------


def test_the_soft_limit_keeps_the_state_up_to_there(session):
    text(session, "def g():\n    yield from range(9)\nit = g(); n = 0")
    result = run(session, f"next(it); n = 5; open('f', 'w').write('kept'); print('out')\n{ENDLESS}", timeout=0.2)
    assert (result.error, result.text) == ("timeout", "out\ntimed out after 0.2 s; the state up to there is kept")
    assert text(session, "n, next(it), open('f').read()") == "(5, 1, 'kept')"


def test_the_hard_limit_goes_back_to_before_the_cell(session):
    text(session, "def g():\n    yield from range(9)\nit = g(); next(it); n = 1; open('f', 'w').write('before')\nNone")
    with cloned(session) as [sibling]:
        spoil = "next(it); n = 2; open('f', 'w').write('spoilt'); open('g', 'w').close()\n"
        result = run(session, f"{BLOCKED}{spoil}{ENDLESS}", timeout=0.2)
        assert result.error == "timeout"
        assert result.text == f"timed out after 0.2 s and had to be stopped; {BACK}"
        look = "import os; n, next(it), open('f').read(), os.listdir()"
        assert text(session, look) == text(sibling, look) == "(1, 1, 'before', ['f'])"
    with cloned(session) as [child]:  # what took its place is as good as it was
        assert text(child, "next(it)") == text(session, "next(it)") == "2"


def test_the_tools_own_limit_is_the_smaller_one(session):
    shorter = PythonSession(session._server, session._process, 0.2)
    session._process = None
    try:
        assert "timed out after 0.2 s" in run(shorter, ENDLESS, timeout=60.0).text
        assert "timed out after 0.1 s" in run(shorter, ENDLESS, timeout=0.1).text
    finally:
        shorter.close()


# --- death -------------------------------------------------------------------------------------------------

DEATHS = {
    "exit": "import os; os._exit(0)",
    "abort": "import os; os.abort()",
    "segmentation fault": "import ctypes; ctypes.string_at(0)",
    "deep recursion in C": "import sys; sys.setrecursionlimit(10**9)\nf = lambda n: f(n + 1)\nclass A:\n"
    "    def __repr__(self): return repr(self)\n    __str__ = __hash__ = __repr__\nfrom functools import partial\n"
    "p = partial(print)\nfor _ in range(10**6): p = [p]\nrepr(p)",
    "closed channel": "import os\nos.closerange(3, 64)",
}


@pytest.mark.parametrize("code", DEATHS.values(), ids=DEATHS)
def test_a_cell_that_kills_its_process_costs_only_itself(session, code):
    text(session, "n = 1; it = iter('abc'); next(it)")
    with cloned(session) as [sibling]:
        result = run(session, f"n = 2; next(it)\n{code}")
        assert result.error == "died"
        assert result.text.startswith("the interpreter died in this cell (")
        assert result.text.endswith(BACK)
        assert text(session, "n, next(it)") == text(sibling, "n, next(it)") == "(1, 'b')"


FORGERIES = {
    "a reply without the nonce": "send({'text': 'believed', 'error': None})",
    "a reply with a wrong nonce": "send({'text': 'believed', 'error': None, 'nonce': '0' * 16})",
    "no message": "write(b'\\0\\0\\0\\4nope')",
    "a huge frame": "write(b'\\xff\\xff\\xff\\xff')",
    "half a frame, then the end": "write(b'\\0\\0\\0\\9{'); os._exit(0)",
    "a right reply, and then the real one": (
        "frame = sys._getframe()\nwhile 'order' not in frame.f_locals: frame = frame.f_back\n"
        "send({'text': 'believed', 'error': None, 'nonce': frame.f_locals['order']['nonce']})"
    ),
}
WRITER = """
import os, sys, json, struct, stat
def write(data):
    for file in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(file).st_mode):
                os.write(file, data)
        except OSError:
            pass
def send(message):
    body = json.dumps(message).encode()
    write(struct.pack('>I', len(body)) + body)
"""


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_reply_is_not_believed(session, forge):
    text(session, f"n = 1\n{WRITER}")
    with cloned(session) as [sibling]:
        result = run(session, f"n = 2\n{forge}\nimport time; time.sleep(0.5); 'real'", timeout=20.0)
        if "real one" not in forge and "order" not in forge:
            assert result.error == "died"
            assert result.text.endswith(BACK)
            assert text(session, "n") == "1"
        else:  # a cell may say what it likes; what comes after it ends the session, and nothing but the session
            assert result.error == "died" or run(session, "n").error == "died"
        assert text(sibling, "n") == "1"


# --- memory, numbers, disk ---------------------------------------------------------------------------------


def test_memory_of_one_process(session):
    text(session, "n = 1")
    result = run(session, "n = 2; b = bytearray(600 << 20)")
    assert (result.error, result.text.splitlines()[-1]) == ("error", "MemoryError")
    assert text(session, "n") == "2"


def test_memory_of_an_environment(tool):
    small = usable_tool(tool.settings.layers, imports=("numpy",), memory_mb=512, total_memory_mb=400)
    fill = "import numpy as np; a = np.ones({} << 17)\nNone"  # mebibytes
    with opened(small) as session:
        text(session, fill.format(150))
        with cloned(session) as [one]:
            assert text(one, "float(a[5])") == "1.0"  # what is shared counts once
            text(one, "a = a + 1")
            result = run(session, "a = a + 1")  # for the time of the cell there are three of them
            assert result.error == "limit"
            full = "the interpreters of this environment may use 400 MB together, and that is used up"
            assert result.text == f"the cell was undone: {full}; {BACK}"
            assert text(session, "float(a[5])") == "1.0"
            assert text(one, "float(a[5])") == "2.0"
        text(session, "a += 1")  # there is room again when the clone is closed
        with opened(small) as other:  # another environment has caps of its own
            text(other, fill.format(150))


def test_number_of_interpreters_of_an_environment(tool):
    small = usable_tool(tool.settings.layers, imports=("numpy",), max_sessions=3)
    with opened(small) as session:
        text(session, "n = 1")
        with cloned(session) as [child]:
            assert text(child, "n") == "1"  # and a checkpoint, which makes three
            one, none = session.clone(2)
            assert isinstance(none, CloneError)
            assert "all 3 interpreters that this environment may have at a time are in use" in str(none)
            result = run(session, "n = 2")
            assert result.error == "limit"
            assert result.text.startswith("the cell was not run: all 3 interpreters")
            one.close()
            assert text(session, "n") == "1"


WRITE_MUCH = """
import os
written = 0
try:
    for number in range({files}):
        with open(f'f{{number}}', 'wb') as file:
            file.write(b'x' * {size})
            written += 1
except OSError as error:
    print(error.strerror)
written
"""


@pytest.mark.parametrize(("files", "size"), [(20, 500_000), (100, 1)], ids=["bytes", "files"])
def test_a_full_disk(tool, session, files, size):
    text(session, "n = 1; open('before', 'w').write('x')\nNone")
    result = run(session, "n = 2" + WRITE_MUCH.format(files=files, size=size))
    if tool._server.namespaces:  # the kernel bounds it
        assert result.error is None
        assert result.text.startswith("No space left on device\n")
        assert text(session, "n") == "2"
    else:  # it is looked at, and the cell undone
        assert result.error == "limit"
        assert result.text == f"the cell was undone: the working directory may hold 2 MB in 32 files, {INCLUDED}; {BACK}"
        assert text(session, "import os; n, os.listdir()") == "(1, ['before'])"
    assert text(session, "import os\nfor name in os.listdir(): os.remove(name)\nopen('f', 'w').write('y')") == "1"
    with cloned(session) as [child]:
        assert text(child, "open('f').read()") == "'y'"


def test_one_file_of_any_size(session):
    result = run(session, "open('f', 'wb').write(b'x' * 5_000_000)")
    assert result.error in ("error", "limit")
    assert text(session, "1") == "1"


# --- output ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["print('b' + 'x' * 10**6 + 'e')", "'b' + 'x' * 10**6 + 'e'", "print('b' + 'é🙂' * 10**5 + 'e')"]
)
def test_output_is_cut_in_the_middle_and_says_so(session, code):
    shown = text(session, code)
    assert len(shown) <= 400
    assert shown.strip("'")[0] == "b"
    assert shown.strip("'")[-1] == "e"
    head, _, tail = shown.partition("\n… [")
    missing, _, tail = tail.partition(" characters left out] …\n")
    whole = len(eval(code.replace("print", "str"))) + 2 * code.startswith("'")
    assert int(missing) + len(head) + len(tail) - whole in (0, 1)  # the last line break is written, and not shown


def test_endless_output_is_a_time_out_and_no_more(session):
    result = run(session, "while True:\n    print('x' * 1000)", timeout=0.3)
    assert result.error == "timeout"
    assert len(result.text) <= 400
    assert text(session, "1") == "1"


def test_nothing_said_is_a_success(session):
    assert (run(session, "x = 1").text, run(session, "x = 1").error) == ("", None)


# --- hooks that run when nobody expects it -----------------------------------------------------------------

HOOKS = {
    "destructor": "class A:\n    def __del__(self):\n        while True: pass\na = A()",
    "atexit": "import atexit\n@atexit.register\ndef f():\n    while True: pass",
    "at fork": "import os\nf = lambda: 1 / 0\nos.register_at_fork(before=f, after_in_child=f, after_in_parent=f)",
    "weak reference": "import weakref\nclass A: pass\na = A()\nw = weakref.finalize(a, lambda: [0 for _ in iter(int, 1)])",
    "signal": "import signal\nfor s in {*signal.valid_signals()} - {9, 19}:\n    signal.signal(s, lambda *a: 1 / 0)",
    "trace": "import sys\nsys.settrace(lambda *a: 1 / 0); sys.setprofile(lambda *a: 1 / 0)",
    "garbage collector": "import gc\ngc.callbacks.append(lambda *a: 1 / 0)",
    "audit": "import sys\nsys.addaudithook(lambda *a: None)",
}


@pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)
def test_a_hook_hangs_neither_clone_nor_close(session, hook):
    run(session, f"n = 1\n{hook}")
    with cloned(session, 2) as [one, other]:
        assert run(one, "print(n)").text.splitlines()[-1] == "1"
        pids = [twin._process.pid for twin in (one, other)]
    assert eventually(lambda: not any(alive(pid) for pid in pids))
