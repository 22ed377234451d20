"""Cells that wait: by asyncio.run, by loops of their own, and by `await` outside of functions; alone and in copies."""

import pytest
from python_sessions import MODES, cloned, opened, run, text, usable_tool

DEFINITIONS = """
import asyncio, gc, io, os, sys
async def five():
    await asyncio.sleep(0.001)
    return 5
async def count():
    for number in range(3):
        yield number
        await asyncio.sleep(0)
class Room:
    async def __aenter__(self): return "in"
    async def __aexit__(self, *what): print("out")
"""


@pytest.fixture(scope="module", params=MODES)
def tool(request):
    return usable_tool(request.param, imports=())


@pytest.fixture
def session(tool):
    with opened(tool) as session:
        text(session, DEFINITIONS)
        yield session


WAITING = [
    ("asyncio.run(five())", "5"),
    ("asyncio.run(five(), debug=True)", "5"),
    ("with asyncio.Runner() as runner:\n    print(runner.run(five()), runner.run(five()))", "5 5"),
    ("loop = asyncio.new_event_loop()\nfound = loop.run_until_complete(five())\nloop.close()\nfound", "5"),
    ("loop = asyncio.get_event_loop_policy().new_event_loop()\nloop.run_until_complete(five())", "5"),
    ("loop = asyncio.SelectorEventLoop()\nloop.run_until_complete(five())", "5"),
    ("import selectors\nasyncio.SelectorEventLoop(selectors.SelectSelector()).run_until_complete(five())", "5"),
    ("import selectors\nselectors.DefaultSelector().select(0)", "[]"),
    ("await five()", "5"),
    ("x = await five(); x + 1", "6"),
    ("x = 1\nprint(await five())\nx", "5\n1"),
    ("[await five() for _ in range(2)]", "[5, 5]"),
    ("[number async for number in count()]", "[0, 1, 2]"),
    ("async for number in count():\n    print(number)", "0\n1\n2"),
    ("async with Room() as where:\n    print(where)", "in\nout"),
    ("if await five():\n    print('yes')", "yes"),
    ("sorted(await asyncio.gather(five(), asyncio.sleep(0, 4)))", "[4, 5]"),
    ("async with asyncio.TaskGroup() as group:\n    task = group.create_task(five())\ntask.result()", "5"),
    ("try:\n    await asyncio.wait_for(asyncio.sleep(9), 0.01)\nexcept TimeoutError:\n    print('late')", "late"),
    ("queue = asyncio.Queue()\nawait queue.put(3)\nawait queue.get()", "3"),
    ("lock = asyncio.Lock()\nasync with lock:\n    print(lock.locked())", "True"),
    ("done = asyncio.get_running_loop().create_future()\ndone.set_result(2)\nawait done", None),
    ("loop = asyncio.new_event_loop()\nloop.call_soon_threadsafe(loop.stop)\nloop.run_forever()", ""),
    ("from __future__ import annotations\nawait five()", "5"),
    ("'''await'''", "'await'"),
    ("eval('1 + 1')", "2"),
]


@pytest.mark.parametrize(("code", "shown"), WAITING)
def test_cells_may_wait(session, code, shown):
    if shown is None:
        code, shown = f"await asyncio.sleep(0)\n{code}", "2"
    assert text(session, code) == shown
    assert text(session, "await five(), asyncio is sys.modules['asyncio']") == "(5, True)"
    assert text(session, "asyncio.run(five())") == "5"


FAILING = [
    ("def f():\n    await five()", "SyntaxError: 'await' outside async function"),
    ("await 5", "TypeError: object int can't be used in 'await' expression"),
    ("await five()\nasyncio.run(five())", "RuntimeError: asyncio.run() cannot be called from a running event loop"),
    ("async def fail():\n    await five()\n    1 / 0\nawait fail()", "ZeroDivisionError: division by zero"),
    ("yield 5", "SyntaxError: 'yield' outside function"),
    ("await five()\nreturn 5", "SyntaxError: 'return' outside function"),
    ("await asyncio.to_thread(print)", "RuntimeError: can't start new thread"),
    ("await asyncio.open_connection('127.0.0.1', 80)", "PermissionError: [Errno 1] Operation not permitted"),
    ("asyncio.get_running_loop()", "RuntimeError: no running event loop"),
    ("await five()\nraise SystemExit(3)", "exit() was called with 3; the session continues"),
    ("asyncio.new_event_loop().add_signal_handler(14, print)", "NotImplementedError: no signals reach a cell"),
]


@pytest.mark.parametrize(("code", "shown"), FAILING)
def test_what_fails_says_so_and_the_next_cell_waits(session, code, shown):
    result = run(session, code)
    assert result.error == "error"
    assert (
        result.text.replace(" coroutine 'five' was never awaited", "").splitlines()[-1].startswith(shown[:60])
        or shown in result.text
    )
    assert text(session, "await five()") == "5"


def test_the_traceback_shows_the_cells_own_lines_only(session):
    result = run(session, "async def fail():\n    await asyncio.sleep(0)\n    1 / 0\nawait fail()")
    assert result.text == (
        'Traceback (most recent call last):\n  File "<cell 2>", line 4\n    await fail()\n'
        '  File "<cell 2>", line 3, in fail\n    1 / 0\nZeroDivisionError: division by zero'
    )


INTERRUPTED = [
    ("try:\n    await asyncio.sleep(60)\nfinally:\n    print('cleaned')", "cleaned\n"),
    ("asyncio.run(asyncio.sleep(60))", ""),
    ("await asyncio.sleep(0)\nwhile True: pass", ""),
    ("asyncio.new_event_loop().run_forever()", ""),
    ("async def again():\n    while True:\n        await asyncio.sleep(0)\nawait again()", ""),
    ("async def spin():\n    while True: pass\ntask = asyncio.get_running_loop().create_task(spin())\nawait task", ""),
    ("asyncio.get_running_loop().call_soon(lambda: [0 for _ in iter(int, 1)])\nawait asyncio.sleep(60)", None),
]


@pytest.mark.parametrize(("code", "shown"), INTERRUPTED)
def test_the_time_limit_holds_for_cells_that_wait(session, code, shown):
    result = run(session, code, timeout=0.3)
    assert result.error == "timeout"
    if shown is not None:
        assert result.text == f"{shown}timed out after 0.3 s; the state up to there is kept"
    assert text(session, "await five()") == "5"
    assert text(session, "asyncio.run(five())") == "5"


SLOW_TO_IMPORT = """
import sys, time
class Slow:
    @staticmethod
    def find_spec(name, *more):
        if name == "asyncio":
            time.sleep(60)
sys.meta_path.insert(0, Slow)
async def five():
    return 5
"""


def test_a_cell_whose_time_is_over_before_it_waits_is_not_told_of_a_coroutine_that_never_began():
    with opened(usable_tool("full", imports=())) as session:
        text(session, SLOW_TO_IMPORT)
        result = run(session, "await five()", timeout=0.3)
        assert (result.error, result.text) == ("timeout", "timed out after 0.3 s; the state up to there is kept")
        text(session, "sys.meta_path.remove(Slow)")
        assert text(session, "await five()") == "5"


TICKING = """
seen = []
async def tick():
    while len(seen) < 50:
        seen.append(len(seen))
        await asyncio.sleep(0.002)
task = asyncio.create_task(tick())
await asyncio.sleep(0.01)
"""


def test_a_task_that_is_left_goes_on_while_a_later_cell_waits_and_in_copies_by_itself(session):
    text(session, TICKING)
    before = int(text(session, "len(seen)"))
    assert 0 < before < 50
    with cloned(session, 2) as [one, two]:
        assert text(one, "await task\nlen(seen)") == "50"
        assert int(text(two, "len(seen)")) == int(text(session, "len(seen)")) == before
        with cloned(two) as [heir]:
            assert text(heir, "await task\nlen(seen), task.done()") == "(50, True)"
        assert text(two, "task.done()") == text(session, "task.done()") == "False"
    assert text(session, "await task\nlen(seen)") == "50"


def test_what_fails_where_nobody_waits_is_said_in_a_line(session):
    code = """
async def fail():
    raise ValueError("unseen")
task = asyncio.create_task(fail())
asyncio.get_running_loop().call_soon(int, "x")
await asyncio.sleep(0.01)
del task
gc.collect()
None"""
    assert text(session, code).splitlines() == [
        "Exception in callback int('x'): ValueError: invalid literal for int() with base 10: 'x'",
        "Task exception was never retrieved: ValueError: unseen",
    ]


def test_a_loop_of_the_cells_own_is_copied(session):
    text(session, "loop = asyncio.new_event_loop()\nloop.call_later(0.5, print, 'called')\nwaiting = loop.create_task(five())")
    with cloned(session) as [child]:
        for one in (child, session):
            assert text(one, "loop.run_until_complete(waiting)") == "5"
        for one in (child, session):
            assert text(one, "loop.run_until_complete(asyncio.sleep(0.6))") == "called"


TAKEN = """
import select
def taken():
    poll = select.poll()
    for file in range(64):
        poll.register(file, 0)
    return 64 - len([file for file, event in poll.poll(0) if event & select.POLLNVAL])
"""


def test_no_descriptor_is_taken(session):
    text(session, TAKEN)
    before = text(session, "taken()")
    text(session, "await five()")
    text(session, "asyncio.run(five())\nloop = asyncio.new_event_loop()\nloop.run_until_complete(five())")
    assert text(session, "taken()") == before


@pytest.mark.parametrize(
    "spoil",
    [
        "asyncio.get_running_loop().stop()\nawait asyncio.sleep(9)",
        "loop = asyncio.get_running_loop()\nawait asyncio.sleep(0)",
        "asyncio._set_running_loop(asyncio.new_event_loop())",
        "await asyncio.sleep(0)\nasyncio._set_running_loop(None)",
        "asyncio.set_event_loop_policy(None)",
        "asyncio.set_event_loop(None)",
        "asyncio.new_event_loop = asyncio.Task = asyncio.run = asyncio.events = None",
        "await asyncio.sleep(0)\nfor task in asyncio.all_tasks():\n    task.cancel()\nawait asyncio.sleep(1)",
    ],
)
def test_what_a_cell_does_to_its_loop_does_not_reach_the_next(session, spoil):
    run(session, spoil)
    run(session, "loop.close()")
    assert text(session, "async def six():\n    return 6\nawait six()") == "6"
    with cloned(session) as [child]:
        assert text(child, "await six()") == "6"


def test_it_does_not_matter_when_asyncio_is_imported():
    tool = usable_tool("full", imports=("asyncio",))
    with opened(tool) as session:
        text(session, DEFINITIONS)
        assert text(session, "asyncio.run(five())") == text(session, "await five()") == "5"


# --- the standard streams ----------------------------------------------------------------------------------

PRINTING = [
    ("sys.stdout.reconfigure(encoding='utf-8'); print('é')", "é"),
    ("sys.stdout.reconfigure(line_buffering=True, write_through=True); sys.stdout.line_buffering", "True"),
    (
        "sys.stdout.reconfigure(encoding='ascii', errors='replace'); sys.stdout.encoding, sys.stdout.errors",
        "('ascii', 'replace')",
    ),
    ("sys.stderr.reconfigure(errors='backslashreplace', newline=None); sys.stderr.errors", "'backslashreplace'"),
    ("sys.stdin.reconfigure(encoding='utf-8'); sys.stdin.encoding", "'utf-8'"),
    ("sys.stdout.reconfigure(); print(sys.stdout.newlines, sys.stdout.write_through)", "None False"),
    ("sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8'); print('é')", "é"),
    ("sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf-8', line_buffering=True); print('é', end='')", "é"),
    ("sys.stderr = io.TextIOWrapper(sys.stderr.buffer, 'latin-1', 'replace'); print('e', file=sys.stderr)", "e"),
    ("import codecs; sys.stdout = codecs.getwriter('utf-8')(sys.stdout.buffer); print('é')", "é"),
    (
        "sys.stdout.isatty(), sys.stdin.isatty(), sys.stdout.closed, sys.stdout.name, sys.stdout.mode",
        "(False, False, False, '<stdout>', 'w')",
    ),
    ("sys.stdout.readable(), sys.stdout.writable(), sys.stdout.seekable()", "(False, True, False)"),
    ("sys.stdout.flush(); sys.stdout.writelines(['a', 'b'])", "ab"),
    ("sys.stdout.buffer.write(b'a'); sys.stdout.buffer.flush(); sys.stdout.buffer.isatty()", "a\nFalse"),
    ("with sys.stdout as out: print('a')\nprint('b')", "a\nb"),
]


@pytest.mark.parametrize(("code", "shown"), PRINTING)
def test_standard_streams_are_told_things_as_elsewhere(session, code, shown):
    assert text(session, code) == shown
    assert text(session, "print('é')") == "é"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("sys.stdout.reconfigure(encoding='nonsense')", "LookupError: unknown encoding: nonsense"),
        ("sys.stdout.reconfigure(errors='nonsense')", "LookupError: unknown error handler name 'nonsense'"),
        ("sys.stdout.reconfigure(newline='x')", "ValueError: illegal newline value: 'x'"),
        ("sys.stdout.reconfigure(colour=True)", "TypeError: "),
        ("sys.stdout.reconfigure('utf-8')", "TypeError: "),
        ("sys.stdout.fileno()", "io.UnsupportedOperation: fileno"),
        ("sys.stdin.buffer.read()", "EOFError: nobody can type here"),
        ("sys.stdin.readlines()", "EOFError: nobody can type here"),
        (
            "sys.stdout = io.TextIOWrapper(sys.stdout.buffer, 'utf-8'); print('before')\n1 / 0",
            "ZeroDivisionError: division by zero",
        ),
    ],
)
def test_standard_streams_refuse_what_they_cannot_do(session, code, shown):
    result = run(session, code)
    assert result.error == "error"
    assert result.text.splitlines()[-1].startswith(shown)
    assert result.text.startswith("before" if "before" in code else "Traceback")


def test_a_stream_that_fails_when_it_is_flushed_harms_nobody(session):
    text(session, "class Bad:\n    def write(self, text): pass\n    def flush(self): 1 / 0\nsys.stdout = Bad()")
    assert run(session, "class Worse(Bad):\n    def flush(self): sys.exit(3)\nsys.stderr = Worse()").error == "error"
    assert (
        run(session, "class Endless(Bad):\n    def flush(self):\n        while True: pass\nsys.stdout = Endless()", 0.3).error
        == "timeout"
    )
    assert text(session, "print(1)") == "1"


def test_what_a_stream_was_told_is_copied(session):
    text(session, "sys.stdout.reconfigure(encoding='ascii')")
    with cloned(session) as [child]:
        text(child, "sys.stdout.reconfigure(encoding='latin-1')")
        assert text(session, "sys.stdout.encoding") == "'ascii'"
        assert text(child, "sys.stdout.encoding") == "'latin-1'"
