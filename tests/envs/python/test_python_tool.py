"""The laws of `PythonTool`: what a clone keeps, that it shares nothing, and that equal seeds give equal texts."""

import copy
import pickle
from itertools import pairwise

import pytest
from python_sessions import MODES, TASK, cloned, open_session, opened, run, text, usable_tool

from arpo_envs import CloneError, ConfigError, ForkLevel
from arpo_envs.errors import ToolFault
from arpo_envs.testing import check_tool
from arpo_envs.tools import Tool
from arpo_envs.tools.python import PythonTool


@pytest.fixture(scope="module", params=MODES)
def tool(request):
    return usable_tool(request.param)


@pytest.fixture
def session(tool):
    with opened(tool) as session:
        yield session


# --- what survives -----------------------------------------------------------------------------------------

SURVIVORS = {
    "generator, half consumed": (
        "def g():\n    yield from range(9)\nit = g(); next(it), next(it)",
        "next(it), next(it)",
        "(2, 3)",
    ),
    "generator expression": ("it = (x * x for x in range(9)); next(it); next(it)", "next(it)", "4"),
    "generator in a try": (
        "def g():\n    try:\n        yield 1\n    finally:\n        log.append('closed')\nlog = []; it = g(); next(it)",
        "it.close(); log",
        "['closed']",
    ),
    "iterators": (
        "import itertools; a = itertools.count(5); b = iter([1, 2, 3]); c = zip('xyz', a); next(a); next(b); next(c)",
        "next(a), next(b), next(c)",
        "(7, 2, ('y', 8))",
    ),
    "coroutine": (
        "async def c():\n    return 5\nwaiting = c()",
        "try:\n    waiting.send(None)\nexcept StopIteration as end:\n    value = end.value\nvalue",
        "5",
    ),
    "class": (
        "class A:\n    made = 0\n    def bump(self):\n        A.made += 1\n        return A.made\na = A(); a.bump()",
        "a.bump(), type(a) is A, A().bump()",
        "(2, True, 3)",
    ),
    "metaclass and slots": (
        "class M(type):\n    def __call__(cls, *a):\n        return super().__call__(*a)\n"
        "class S(metaclass=M):\n    __slots__ = ('x',)\ns = S(); s.x = 3",
        "s.x, type(type(s)) is M",
        "(3, True)",
    ),
    "lambda": ("seen = [1]; f = lambda x: seen.append(x) or sum(seen); f(2)", "f(3), f.__closure__", "(6, None)"),
    "closure": (
        "def counter():\n    n = 0\n    def step():\n        nonlocal n\n        n += 1\n        return n\n"
        "    return step\nf = counter(); f(); f()",
        "f()",
        "3",
    ),
    "array and its view": (
        "import numpy as np; a = np.arange(6).reshape(2, 3); v = a[1]; v[0] = 9",
        "v[1] = 100; int(a.sum()), np.shares_memory(a, v)",
        "(117, True)",
    ),
    "NumPy generator": (
        "import numpy as np; r = np.random.default_rng(5); first = r.integers(1000, size=3)",
        "bool((np.concatenate([first, r.integers(1000, size=3)]) == np.random.default_rng(5).integers(1000, size=6)).all())",
        "True",
    ),
    "symbol": (
        "import sympy; x = sympy.Symbol('x'); e = x**2 - 1",
        "sympy.factor(e), x is sympy.Symbol('x')",
        "((x - 1)*(x + 1), True)",
    ),
    "lock": (
        "import threading; lock = threading.RLock(); lock.acquire()",
        "lock.release(); lock.acquire(blocking=False)",
        "True",
    ),
    "hash in progress": (
        "import hashlib; h = hashlib.sha256(b'a')",
        "h.update(b'b'); h.digest() == hashlib.sha256(b'ab').digest()",
        "True",
    ),
    "module": (
        "import sys, types; sys.modules['mine'] = m = types.ModuleType('mine'); m.x = 3",
        "import mine; mine.x, mine is m",
        "(3, True)",
    ),
    "changed library": ("import math; math.tau = 3", "import math; math.tau", "3"),
    "cycle and weak reference": (
        "import weakref\nclass N: pass\nn = N(); n.me = n; w = weakref.ref(n, lambda r: log.append('gone')); log = []",
        "same = w() is n\ndel n\nimport gc; gc.collect(); same, w(), log",
        "(True, None, ['gone'])",
    ),
    "exception with its frames": (
        "def f(deep):\n    1 / deep\ntry:\n    f(0)\nexcept ZeroDivisionError as e:\n    kept = e",
        "kept.__traceback__.tb_next.tb_frame.f_locals",
        "{'deep': 0}",
    ),
    "decimal context": ("import decimal; decimal.getcontext().prec = 5", "decimal.Decimal(1) / 3", "Decimal('0.33333')"),
    "with block, entered": (
        "from contextlib import ExitStack; log = []; s = ExitStack(); s.__enter__(); s.callback(log.append, 1)",
        "s.close(); log",
        "[1]",
    ),
    "import from the working directory": ("open('helper.py', 'w').write('x = 4')", "import helper; helper.x", "4"),
}


@pytest.mark.parametrize(("prepare", "ask", "answer"), SURVIVORS.values(), ids=SURVIVORS)
def test_it_survives_a_clone_and_a_clone_of_a_clone(session, prepare, ask, answer):
    text(session, prepare)
    with cloned(session) as [child], cloned(child) as [grandchild]:
        for who in (grandchild, session, child):  # each begins where the original was, whoever was asked before
            assert text(who, ask) == answer


def test_nothing_is_run_again(session):
    text(session, "runs = 0")
    text(session, "runs += 1; open('runs', 'a').write('x')\nNone")
    with cloned(session, 3) as twins:
        assert {text(who, "runs, open('runs').read()") for who in (session, *twins)} == {"(1, 'x')"}


def test_the_original_may_be_closed_or_killed_first(tool):
    session = open_session(tool)
    text(session, "def g():\n    yield from range(9)\nit = g(); next(it)")
    with cloned(session, 2) as [one, other]:
        session.close()
        assert text(one, "next(it)") == "1"
        run(one, "import os; os._exit(1)")
        assert text(one, "next(it)") == "2"
        assert text(other, "next(it)") == "1"


def test_a_chain_of_fifty_clones(session):
    text(session, "path = [0]\ndef g():\n    yield from range(99)\nit = g(); next(it)")
    chain = [session]
    try:
        for depth in range(1, 51):
            chain += chain[-1].clone()
            assert text(chain[-1], f"path.append({depth}); next(it)") == str(depth)
        assert text(chain[50], "path == list(range(51))") == "True"
        for depth, other in ((0, 40), (25, 10), (49, 30)):
            assert text(chain[depth], "path[-1], len(path)") == str((depth, depth + 1))
            chain[other].close()
        assert text(chain[50], "next(it)") == "51"
    finally:
        for link in chain:
            link.close()


# --- independence ------------------------------------------------------------------------------------------

CHANGES = {
    "name": ("x = 1", "x = 2", "x"),
    "name, deleted": ("x = 1", "del x", "'x' in globals()"),
    "list": ("x = [1]", "x.append(2)", "x"),
    "array": ("import numpy as np; x = np.zeros(200_000)", "x[:] = 1", "float(x.sum())"),
    "class": ("class A: n = 1", "A.n = 2", "A.n"),
    "library": ("import math", "math.pi = 3", "math.pi"),
    "environment": ("import os; os.environ['K'] = 'a'", "os.environ['K'] = 'b'", "os.environ['K'], os.getenv('K')"),
    "directory": ("import os; os.mkdir('d')", "os.chdir('d')", "os.getcwd()"),
    "file, written": ("open('f', 'w').write('a')", "open('f', 'w').write('b')", "open('f').read()"),
    "file, appended": ("open('f', 'w').write('a')", "open('f', 'a').write('b')", "open('f').read()"),
    "file, removed": ("import os; open('f', 'w').write('a')", "os.remove('f')", "os.listdir()"),
    "file, made": ("import os", "open('new', 'w').write('a')", "os.listdir()"),
    "file, renamed": ("import os; open('f', 'w').write('a')", "os.rename('f', 'g')", "os.listdir()"),
    "file in a folder": (
        "import os; os.makedirs('d/e'); open('d/e/f', 'w').write('a')",
        "open('d/e/f', 'w').write('b'); os.mkdir('d/e/g')",
        "open('d/e/f').read(), os.listdir('d/e')",
    ),
    "file behind a link": (
        "import os; open('f', 'w').write('a'); os.symlink('f', 'l')",
        "open('l', 'w').write('b')",
        "open('f').read(), os.readlink('l')",
    ),
    "temporary file": ("import tempfile, os", "tempfile.mkstemp()[0] > 0", "len(os.listdir(tempfile.gettempdir()))"),
    "random": ("import random", "random.random()", "random.getstate()[1][:3], random.getstate()[1][-1]"),
    "NumPy's random": ("import numpy as np", "np.random.rand()", "np.random.get_state()[2]"),
    "NumPy generator": (
        "import numpy as np; r = np.random.default_rng(1)",
        "r.random()",
        "r.bit_generator.state['state']['state']",
    ),
    "mapped memory": (
        "import mmap; m = mmap.mmap(-1, 5000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); m[0] = 1",
        "m[0] = 2",
        "m[0], m[4999]",
    ),
    "recursion limit": ("import sys", "sys.setrecursionlimit(5000)", "sys.getrecursionlimit()"),
}


@pytest.mark.parametrize(("prepare", "change", "look"), CHANGES.values(), ids=CHANGES)
def test_a_change_reaches_neither_clone_nor_original(session, prepare, change, look):
    text(session, prepare)
    with cloned(session, 2) as [one, other]:
        before = text(session, look)
        assert text(one, look) == text(other, look) == before
        text(one, f"{change}\nNone")
        changed = text(one, look)
        assert changed != before
        assert text(session, look) == text(other, look) == before
        text(session, f"{change}\nNone")
        assert text(session, look) == changed
        assert text(other, look) == before


def test_files_of_a_clone_are_equal(session):
    text(
        session,
        "import os\nos.makedirs('a/b'); open('a/b/f', 'wb').write(bytes(range(256)) * 3000); open('empty', 'w').close()\n"
        "os.symlink('a', 'link'); os.symlink('nowhere', 'dangling')\n"
        "def tree():\n    return [(p, sorted(d), sorted(f)) for p, d, f in os.walk('.')]\nNone",
    )
    look = "tree(), hash(open('a/b/f', 'rb').read()), os.stat('empty').st_size, os.readlink('dangling'), os.listdir('link')"
    with cloned(session) as [child], cloned(child) as [grandchild]:
        assert text(grandchild, look) == text(child, look) == text(session, look)


def test_random_numbers_are_equal_then_go_their_own_way(session):
    draw = "import random, numpy as np; random.random(), float(np.random.rand()), random.sample(range(1000), 3)"
    text(session, draw)
    with cloned(session) as [child], cloned(child) as [grandchild]:
        first = [text(who, draw) for who in (child, grandchild, session)]
        assert len(set(first)) == 1
        ahead = [text(child, draw) for _ in range(3)]
        assert len({*first, *ahead}) == 4
        assert [text(session, draw) for _ in range(3)] == ahead


def test_reseeding_is_a_function_of_the_seed(session):
    draw = "import random, numpy as np; random.random(), float(np.random.rand())"
    with cloned(session, 3) as [one, other, again]:
        for who, seed in ((one, 1), (other, 2), (again, 1)):
            who.reseed(seed)
        drawn = [text(who, draw) for who in (session, one, other, again)]
        assert drawn[1] == drawn[3]
        assert len(set(drawn)) == 3


# --- the same again ----------------------------------------------------------------------------------------

SCRIPT = (
    "import random, os, tempfile, numpy as np; random.random(), float(np.random.rand())",
    "hash('text'), {'a', 'b', 'c', 'd'}, list({'x', 'y', 'z'})",
    "open('f', 'w').write('x'); os.path.abspath('f'), tempfile.gettempdir(), os.listdir()",
    "class A: pass\nsorted(vars(A)), [A.__name__ for _ in range(2)]",
    "1 / 0",
    "import sympy; sympy.solve('x**3 - 2*x + 1')",
    "while True: pass",
)
ADDRESSES = ("class B: pass\nB(), object(), id([]), print, lambda: 0, (x for x in ())",)


def _transcript(session, script=SCRIPT):
    return [run(session, code, timeout=0.2 if "while" in code else 20.0) for code in script]


def test_equal_seeds_give_equal_texts_on_two_servers(tool):
    script = SCRIPT[:-1]  # where a loop is stopped is chance
    seen = []
    for _ in range(2):
        with opened(tool, seed=7) as session, opened(tool, seed=7) as second:
            number = tool._server._program.pid
            seen.append((number, _transcript(session, script), _transcript(second, script)))
        tool._server.close()
    (one, first, second), (other, third, fourth) = seen
    assert one != other
    assert first == second == third == fourth
    with opened(tool, seed=8) as session:
        assert run(session, script[0]) != first[0]


def test_equal_seeds_give_equal_addresses_on_one_server(tool):
    with opened(tool, seed=7) as session, opened(tool, seed=7) as second:
        assert _transcript(session, ADDRESSES) == _transcript(second, ADDRESSES)


def test_clones_print_what_the_original_prints(session):
    with cloned(session, 2) as twins:
        seen = [_transcript(who) for who in (session, *twins)]
    assert all(one == other for one, other in pairwise(seen))
    assert seen[0][-1].error == "timeout"


# --- the tool itself ---------------------------------------------------------------------------------------


def test_check_tool_passes(tool):
    calls = [
        (
            "python",
            {"code": "import random, numpy as np\nx = [random.random()]; open('f', 'a').write('a'); x"},
        ),
        ("python", {"code": "```python\nx.append(random.random()); it = iter(x); next(it), open('f').read()\n```"}),
        (
            "python",
            {"code": "open('f', 'a').write('b'); next(it), len(x), open('f').read(), random.random(), np.random.rand()"},
        ),
    ]
    report = check_tool(tool, calls=calls, slow=("python", {"code": "while True: pass"}), seeds=(0,), timeout=20.0)
    assert not report.skipped


def test_it_is_a_tool_that_forks_exactly():
    tool = PythonTool()
    assert isinstance(tool, Tool)
    assert tool.fork_level is ForkLevel.EXACT
    assert tool.specs[0].text_parameter == "code"
    assert copy.deepcopy(tool) is tool
    assert pickle.loads(pickle.dumps(tool)).identity == tool.identity
    assert PythonTool(timeout=3.0).identity != tool.identity != PythonTool(memory_mb=512).identity


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"memory_mb": 1}, "memory_mb must be at least 128"),
        ({"max_sessions": 1}, "max_sessions must be at least 2"),
        ({"output_characters": 10}, "output_characters must be at least 200"),
        ({"timeout": 0.0}, "timeout must be above 0"),
        ({"layers": "ful"}, "Did you mean 'full'?"),
        ({"layers": "none"}, "unsafe=True"),
    ],
)
def test_bad_arguments_are_explained(arguments, hint):
    with pytest.raises(ConfigError, match=hint.replace("?", r"\?")):
        PythonTool(**arguments)


def test_an_import_that_fails_is_named():
    with pytest.raises(ConfigError, match="no_such_module_here"):
        PythonTool(imports=("no_such_module_here",)).open(TASK, __import__("numpy").random.default_rng(0))


def test_tools_share_a_server_if_they_are_alike(tool):
    twin = pickle.loads(pickle.dumps(tool))
    with opened(tool), opened(twin):
        assert twin._server is tool._server


def test_without_isolation_only_on_demand_and_with_a_warning():
    tool = PythonTool(layers="none", unsafe=True, imports=())
    with pytest.warns(RuntimeWarning, match="with the rights of this process"):
        session = open_session(tool)
    text(session, "x = [1]")
    with cloned(session) as [child]:
        text(child, "x.append(2)")
        assert (text(session, "x"), text(child, "x")) == ("[1]", "[1, 2]")
    session.close()


def test_a_closed_session_says_so(session):
    session.close()
    session.close()
    with pytest.raises(ToolFault, match="was closed"):
        run(session, "1")
    assert all(isinstance(child, CloneError) for child in session.clone(2))
    session.reseed(1)
