"""The tool on E2B's SDK, where nothing goes wrong: against the loopback server and, with a key, the real cloud."""

import ast
import copy
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import Cloud
from e2b_clock import granted
from e2b_server import KEY, E2BServer

import arpo_envs
from arpo_envs.core import Outcome, Score, ToolEnv
from arpo_envs.errors import CloneError, ConfigError
from arpo_envs.forking import ForkLevel
from arpo_envs.testing import check_forkable_env, check_tool
from arpo_envs.tools import Session, Tool, ToolResult, e2b, python
from arpo_envs.tools.e2b import E2BTool

TWO = pytest.mark.parametrize("fork", ["native", pytest.param("replay", marks=pytest.mark.slow)])
FORKS = pytest.mark.parametrize("fork", ["native", "replay", "auto"])
LIVELY = [
    "import random\nnotes = [random.random()]\nnotes",
    "left = iter(range(5))\nnext(left)",
    "notes.append(random.random())\nnotes",
    "next(left), len(notes)",
    "import numpy as np\nfloat(np.random.rand())",
]
"""Cells that change state that no pickle holds, and draw from both generators."""


def run(session: Session, code: str, timeout: float = 20.0) -> ToolResult:
    return session.call("python", {"code": code}, timeout=timeout)


def text(session: Session, code: str) -> str:
    return run(session, code).text


@TWO
def test_it_keeps_the_laws_of_tools(cloud: Cloud, fork: str) -> None:
    calls = [("python", {"code": code}) for code in LIVELY]
    report = check_tool(cloud.tool(fork=fork), calls=calls, slow=("python", {"code": "while True: pass"}), seeds=(0,))
    assert not report.skipped


def test_protocols(server: E2BServer) -> None:
    session = Cloud(server).open()
    assert isinstance(Cloud(server).tool(), Tool)
    assert isinstance(session, Session)
    assert isinstance(session.park(), Session)
    assert E2BTool.specs[0].text_parameter == "code"


# --- what the model reads -------------------------------------------------------------------------------------

CELLS = [
    ("6 * 7", "42", None),
    ("x = 1", "", None),
    ("print('a')\nprint('b')\n'c'", "a\nb\nc", None),
    ("print('a', end='')\n1", "a\n1", None),
    ("import sys\nprint('out', flush=True)\nprint('err', file=sys.stderr)", "out\nerr", None),
    ("", "", None),
    ("# nothing", "", None),
    ("```python\nx = 20\nx + 1\n```", "21", None),
    ("'é你好🙂'", "é你好🙂", None),
    (
        "1 / 0",
        'Traceback (most recent call last):\n  File "<cell 2>", line 1\n    1 / 0\nZeroDivisionError: division by zero',
        "error",
    ),
    (
        "def half(n):\n    return n / 0\n\nhalf(\n    3)",
        'Traceback (most recent call last):\n  File "<cell 2>", line 4\n    half(\n  File "<cell 2>", line 2, in half\n'
        "    return n / 0\nZeroDivisionError: division by zero",
        "error",
    ),
    (
        "import json\njson.loads('{')",
        "Traceback (most recent call last):\n  File \"<cell 2>\", line 2\n    json.loads('{')\nJSONDecodeError: "
        "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        "error",
    ),
]


@pytest.mark.parametrize(("code", "expected", "error"), CELLS)
def test_the_text_of_a_cell(cloud: Cloud, code: str, expected: str, error: str | None) -> None:
    session = cloud.open()
    assert run(session, code) == ToolResult(expected, error)
    session.close()


def test_a_cell_that_does_not_parse(cloud: Cloud) -> None:
    session = cloud.open()
    result = run(session, "x = 1\nx +")
    assert result.error == "error"
    assert re.fullmatch(r'  File "<cell 2>", line 2\n    x \+\n +\^\nSyntaxError: invalid syntax.*', result.text)
    assert run(session, "x").error == "error"
    session.close()


IPYTHON = (
    "\x1b[31m---------------------------------------------------------------------------\x1b[39m\x1b[31mZeroDivisionError"
    "\x1b[39m                         Traceback (most recent call last)\x1b[36mCell\x1b[39m\x1b[36m \x1b[39m\x1b[32mIn[1]"
    "\x1b[39m\x1b[32m, line 6\x1b[39m\n\x1b[32m      2\x1b[39m     y = \x1b[32m1\x1b[39m\n\x1b[32m      3\x1b[39m     "
    "\x1b[38;5;28;01mreturn\x1b[39;00m x/\x1b[32m0\x1b[39m\n\x1b[32m      4\x1b[39m \n\x1b[32m----> \x1b[39m\x1b[32m6\x1b[39m"
    "     f(i)\n\x1b[36mCell\x1b[39m\x1b[36m \x1b[39m\x1b[32mIn[1]\x1b[39m\x1b[32m, line 3\x1b[39m, in \x1b[36mA.f\x1b[39m"
    "\x1b[34m(x)\x1b[39m\n\x1b[32m----> \x1b[39m\x1b[32m3\x1b[39m     \x1b[38;5;28;01mreturn\x1b[39;00m x/\x1b[32m0\x1b[39m\n"
    "\x1b[36mFile \x1b[39m\x1b[32m/usr/lib/python3/x.py:7\x1b[39m, in \x1b[36mg\x1b[39m\x1b[34m()\x1b[39m\n"
    "\x1b[32m----> \x1b[39m\x1b[32m7\x1b[39m     hidden()\n\x1b[31mZeroDivisionError\x1b[39m: division by zero"
)
"""What a kernel of ipykernel 7.4 really sent, a library's frame added."""
CHAINED = f"{IPYTHON}\nDuring handling of the above exception, another exception occurred:\n"


TOP = "Traceback (most recent call last):"
FRAMES = [TOP, '  File "<cell 1>", line 6', "    f(i)", '  File "<cell 1>", line 3, in A.f', "    return x/0"]
LATER = "Cell In[2], line 9\n      8 x = 1\n----> 9 g()\nKeyError: 'a'"
DEEP = "".join(f"Cell In[1], line {n}, in f()\n----> {n} f()\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("name", "value", "traceback", "expected"),
    [
        ("ZeroDivisionError", "division by zero", IPYTHON, FRAMES),
        (
            "KeyError",
            "'a'",
            CHAINED + LATER,
            ["ZeroDivisionError: division by zero", "which led to:", TOP, '  File "<cell 2>", line 9', "    g()"],
        ),
        ("SystemExit", "2", "An exception has occurred, use %tb to see the full traceback.\nSystemExit: 2", []),
        ("Odd", "", "", []),
        (
            "RecursionError",
            "",
            DEEP,
            [
                TOP,
                *(line for n in (1, 2, 3) for line in (f'  File "<cell 1>", line {n}, in f', "    f()")),
                "  … 3 more frames …",
                *(line for n in (7, 8, 9) for line in (f'  File "<cell 1>", line {n}, in f', "    f()")),
            ],
        ),
    ],
)
def test_the_useful_lines_of_a_kernels_traceback(name: str, value: str, traceback: str, expected: list[str]) -> None:
    shown = e2b.text.told(SimpleNamespace(name=name, value=value, traceback=traceback)).split("\n")
    assert shown[:-1] == expected
    assert shown[-1] == (f"{name}: {value}" if value else name)


LOCAL = """
import sys
sys.path.insert(0, sys.argv[1])
from server.cell import Notebook
sys.stdout, out = None, sys.stdout
notebook = Notebook(8000)
notebook.number = 1
print(notebook.run(sys.argv[2], 5.0), file=out)
"""
"""Runs a cell as the local interpreter does, number 2 (E2B counts the one that seeds)."""


@pytest.mark.parametrize("code", ["print(1, end='')\n2", "def f(n):\n    return n / 0\nf(\n    3)", "raise KeyError"])
def test_a_cell_reads_as_in_the_local_interpreter(server: E2BServer, code: str) -> None:
    command = [sys.executable, "-I", "-c", LOCAL, str(Path(python.__file__).parent), code]
    local = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert run(Cloud(server).open(), code) == ToolResult(*ast.literal_eval(local))


def test_a_long_text_keeps_its_beginning_and_its_end(cloud: Cloud) -> None:
    session = cloud.open()
    result = run(session, "for i in range(9000): print(i)\n1 / 0")
    assert result.text.startswith("0\n1\n2\n")
    assert result.text.endswith("ZeroDivisionError: division by zero")
    assert len(result.text) <= e2b.text.CHARACTERS
    assert re.search(r"\n… \[\d+ characters left out\] …\n", result.text)
    session.close()


def test_a_figure_is_named(cloud: Cloud) -> None:
    output = e2b.text.Transcript()
    output.shown(SimpleNamespace(text=None, formats=lambda: ["png", "svg"]))
    assert output.text() == "[png, svg]"


# --- time and floods ------------------------------------------------------------------------------------------


def test_a_time_out_is_told_in_time_and_leaves_the_state(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    session = cloud.open()
    assert text(session, "x = 1\nx") == "1"
    seconds = granted(monkeypatch)
    result = run(session, "x = 2\nprint('before', flush=True)\nwhile True: pass", timeout=2.0)
    assert re.fullmatch(r"before\ntimed out after [\d.]+ s; the state up to there is kept", result.text)
    assert (result.error, len(seconds)) == ("timeout", 2), "asked for: the cell, and whether the sandbox is still there"
    assert sum(seconds) <= 2.0
    (twin,) = session.clone(1)
    assert text(session, "x") == text(twin, "x") == "2"
    session.close()
    twin.close()


def test_what_timed_out_is_not_replayed(server: E2BServer) -> None:
    session = Cloud(server).open(fork="replay")
    run(session, "while True: pass", timeout=0.5)
    (twin,) = session.clone(1)
    assert isinstance(twin, CloneError)
    assert "a cell timed out" in str(twin)
    with pytest.raises(CloneError, match="a cell timed out"):
        session.park()


def test_a_flood_is_stopped(server: E2BServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (e2b.text, e2b.session):
        monkeypatch.setattr(module, "FLOOD", 50_000)
    session = Cloud(server).open()
    result = run(session, "while True: print('x' * 99)")
    assert result.error == "limit"
    assert result.text.endswith("\nstopped: a cell may write 50,000 characters")
    assert len(result.text) <= e2b.text.CHARACTERS
    assert text(session, "1") == "1"


def test_an_interpreter_that_dies_is_said_to(server: E2BServer) -> None:
    session = Cloud(server).open(seed=5)
    first = text(session, "x = 1\nimport random\nrandom.random()")
    result = run(session, "print('bye', flush=True)\nimport os\nos._exit(1)")
    assert result == ToolResult("bye\nthe interpreter died in this cell; nothing of its state is left", "died")
    assert run(session, "x").text.endswith("NameError: name 'x' is not defined")
    assert text(session, "import random\nrandom.random()") == first, "it is seeded again"


# --- forking --------------------------------------------------------------------------------------------------


@FORKS
def test_clones_hold_what_no_pickle_holds_and_part_ways(cloud: Cloud, fork: str) -> None:
    session = cloud.open(fork=fork)
    run(
        session,
        "class A:\n    def __init__(self): self.f = lambda: 7\na = A()\ng = (i * i for i in range(9))\nnext(g), next(g)",
    )
    run(session, "open('note', 'w').write('here')")
    one, two = session.clone(2)
    for child in (one, two):
        assert text(child, "a.f(), next(g), open('note').read()") == "(7, 4, 'here')"
    run(one, "open('note', 'w').write('there')")
    run(session, "next(g)")
    assert text(one, "next(g), open('note').read()") == "(9, 'there')"
    assert text(two, "open('note').read()") == "here"
    assert text(session, "next(g)") == "9"
    assert (one.replayed_calls, session.replayed_calls) == ((2, 0) if fork == "replay" else (0, 0))
    session.close()
    (grandchild,) = two.clone(1)
    assert text(grandchild, "a.f()") == "7"
    assert grandchild.replayed_calls == (4 if fork == "replay" else 0)
    for child in (one, two, grandchild):
        child.close()


@FORKS
def test_equal_seeds_draw_equally_and_a_reseeded_clone_does_not(cloud: Cloud, fork: str) -> None:
    draw = "import random, numpy\n(random.random(), float(numpy.random.rand()))"
    session, other = cloud.open(seed=3, fork=fork), cloud.open(seed=3, fork=fork)
    assert text(session, draw) == text(other, draw)
    same, fresh, again = session.clone(3)
    fresh.reseed(9)
    again.reseed(9)
    drawn = text(session, draw)
    assert text(same, draw) == drawn
    assert text(fresh, draw) == text(again, draw) != drawn
    (child,) = fresh.clone(1)
    assert text(child, draw) == text(fresh, draw)
    for each in (session, other, same, fresh, again, child):
        each.close()


@FORKS
def test_a_parked_session_stays_as_it_was(cloud: Cloud, fork: str) -> None:
    session = cloud.open(fork=fork)
    run(session, "g = iter(range(9))\nnext(g)")
    parked = session.park()
    run(session, "next(g)")
    session.close()
    assert parked.replayed_calls == 0
    one, two = parked.clone(2)
    assert [text(one, "next(g)"), text(one, "next(g)"), text(two, "next(g)")] == ["1", "2", "1"]
    parked.close()
    assert text(two, "next(g)") == "2"
    (late,) = parked.clone(1)
    assert isinstance(late, CloneError)
    one.close()
    two.close()


def test_snapshots_are_snapshots_and_replay_parks_nothing_but_the_cells(server: E2BServer) -> None:
    parked = Cloud(server).open().park()
    assert (len(server.snapshots), server.count("fork")) == (1, 0)
    parked.close()
    parked.close()
    assert (len(server.snapshots), server.count("unsnapshot")) == (0, 1)
    Cloud(server).open(fork="replay").park()
    assert (len(server.snapshots), server.count("create")) == (0, 2)


def test_many_copies_come_in_batches(server: E2BServer) -> None:
    session = Cloud(server).open()
    run(session, "x = 7")
    children = session.clone(45)
    assert server.count("fork") == 3
    assert {text(child, "x") for child in children[::7]} == {"7"}
    assert len({child._sandbox.sandbox_id for child in children}) == 45
    assert session.clone(0) == []
    for child in (*children, session):
        child.close()
    assert not server.sandboxes


def test_sandboxes_are_short_lived_and_offline_unless_told(server: E2BServer) -> None:
    session = Cloud(server).open(lifetime=120)
    session.clone(1)
    assert {(m.lifetime, m.internet) for m in server.sandboxes.values()} == {(120, False)}
    Cloud(server).open(internet=True, lifetime=90)
    assert (90, True) in {(m.lifetime, m.internet) for m in server.sandboxes.values()}


def test_calls_prolong_a_life_that_is_half_over(server: E2BServer) -> None:
    session = Cloud(server).open(lifetime=100)
    run(session, "1")
    assert server.count("timeout") == 0
    session._heard -= 51
    run(session, "1")
    run(session, "1")
    assert server.count("timeout") == 1


# --- in an environment ----------------------------------------------------------------------------------------


class Sums:
    name = "sums"

    def draw(self, rng: object) -> arpo_envs.Task:
        return self.get("t")

    def get(self, task_id: str) -> arpo_envs.Task:
        return arpo_envs.Task(task_id, "What is 6 * 7?", ("42",))


def exact(task: arpo_envs.Task, outcome: Outcome) -> Score:
    right = float(outcome.answer in task.answers)
    return Score(right, right)


@TWO
def test_an_environment_with_it_forks_by_the_laws(server: E2BServer, fork: str) -> None:
    actions = [[*(f"<python>{code}</python>" for code in LIVELY[:2]), "<answer>42</answer>"]]
    tool = Cloud(server).tool(fork=fork)
    make = lambda: ToolEnv(tasks=Sums(), tools=(tool,), reward=exact)  # noqa: E731
    assert check_forkable_env(make, actions=actions, seeds=(0,)).ok
    assert make().fork_level is (ForkLevel.EXACT if fork == "native" else ForkLevel.REPLAY)
    assert not server.sandboxes, "every sandbox was killed"


def test_an_environment_counts_replays_and_returns_failed_children(server: E2BServer) -> None:
    env = ToolEnv(tasks=Sums(), tools=(Cloud(server).tool(fork="replay"),), reward=exact)
    env.reset(seed=0)
    for code in LIVELY[:3]:
        env.step(f"<python>{code}</python>")
    assert arpo_envs.clone(env).replayed_calls == 3
    native = ToolEnv(tasks=Sums(), tools=(Cloud(server).tool(),), reward=exact)
    native.reset(seed=0)
    server.fail("fork", 500, children=(1,))
    one, failed, other = arpo_envs.clone_many(native, [1, 2, 3])
    assert isinstance(failed, CloneError)
    assert one.step("<python>1 + 1</python>") == other.step("<python>1 + 1</python>")


# --- secrets and arguments ------------------------------------------------------------------------------------


def test_the_key_neither_shows_nor_travels(server: E2BServer, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = E2BTool(api_key=KEY)
    session = tool.open(Sums().get("t"), np.random.default_rng(0))
    for shown in (repr(tool), repr(vars(tool)), repr(session), repr(session._state), str(tool.identity)):
        assert KEY not in shown
    content = pickle.dumps(tool)
    assert KEY.encode() not in content
    assert pickle.loads(content).key() == KEY, "from the variable"
    monkeypatch.delenv("E2B_API_KEY")
    with pytest.raises(ConfigError, match="E2B_API_KEY"):
        pickle.loads(content).key()
    assert copy.deepcopy(tool) is tool
    for unpicklable in (session, session.park()):
        with pytest.raises(TypeError, match="does not pickle"):
            pickle.dumps(unpicklable)


def test_a_refused_key_is_the_users_mistake_and_is_not_repeated(server: E2BServer) -> None:
    wrong = "e2b_" + "0" * 20
    with pytest.raises(ConfigError, match="401") as caught:
        Cloud(server).open(api_key=wrong)
    assert wrong not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_no_secret_reaches_a_sandbox(server: E2BServer) -> None:
    seen: list[dict[str, object]] = server.bodies
    session = Cloud(server).open()
    run(session, "1")
    assert seen
    assert all(KEY not in repr(body) for body in seen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fork": "reply"}, "Did you mean 'replay'"),
        ({"timeout": 0}, "must be positive"),
        ({"lifetime": 0}, "must be positive"),
        ({"retries": -1}, "not negative"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(server: E2BServer, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        E2BTool(**arguments)


def test_what_is_missing_is_said(server: E2BServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("E2B_API_KEY")
    with pytest.raises(ConfigError, match="Set the variable E2B_API_KEY"):
        E2BTool()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "arpo-envs\[e2b\]"'):
        E2BTool(api_key="e2b_0")
    monkeypatch.setitem(sys.modules, "e2b_code_interpreter", None)
    with pytest.raises(ConfigError, match=r'pip install "arpo-envs\[e2b\]"'):
        e2b.calls.load_sdk()
