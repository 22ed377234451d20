"""What a cell says: notebook semantics, output, errors, limits; and Markdown around code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_sessions import opened, run, text

from arpo_envs.tools.python import PythonTool, code
from arpo_envs.tools.python.code import _open_quote as open_quote
from arpo_envs.tools.python.code import strip_fences
from arpo_envs.tools.python.server.output import Output


@pytest.fixture(scope="module")
def tool():
    return PythonTool()


@pytest.fixture
def session(tool):
    with opened(tool) as session:
        yield session


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("x = 1", "x = 1"),
        ("```python\nx = 1\nx\n```", "x = 1\nx"),
        ("```\nx\n```", "x"),
        ("~~~py\nx\n~~~", "x"),
        ("\n\n  ```python\n  x = 1\n  x\n  ```\n", "x = 1\nx"),
        ("```python\nx", "x"),
        ("```python x```", "x"),
        ("```x```", "x"),
        ("```python\nx\n```\nThis shows x.", "x"),
        ("```python\nx = 1\n```\nand then\n```python\nx\n```", "x = 1\nx"),
        ('```python\ns = """\n```\n"""\n```', 's = """\n```\n"""'),
        ("```python\nx = 1\nx\n```\n```\n1\n```", "x = 1\nx"),
        ("```python\nx\n```\nOutput:\n```\n1\n```\nIt is 1.", "x"),
        ("```python\nx = 1\n```\n```output\n1\n```\n```py\nx\n```", "x = 1\nx"),
        ("```\nx\n```\n```\n1\n```", "x"),
        ('```python\ns = """\n```python\nx\n```\n"""\ns\n```\n```\n1\n```', 's = """\n```python\nx\n```\n"""\ns'),
        ("```python\ns.strip('\"\"\"') # '''\n```\n```\n1\n```", "s.strip('\"\"\"') # '''"),
        ("```python\nprint('''x)\n```\n", "print('''x)"),
        ("```\nimport math\n```\n```python\nmath.pi\n```", "import math\nmath.pi"),
        ("```\nx\n```\n```\n1\n```\n```python\ny\n```", "x\ny"),
        ("```tool_code\nx = 1\n```\n```tool_code\nx\n```\n```tool_output\n1\n```", "x = 1\nx"),
        ("```sage\nx = 1\n```\n```Sage\nx\n```\n```\n1\n```", "x = 1\nx"),
        ("```output\n3\n```\n```\nprint(1)\n```", "print(1)"),
        ("```output\n3\n```", "3"),
        ("```python\n```\n```python\nx\n```", "x"),
        ("```\n\n```\n```\nx\n```", "x"),
        ("```python\nx = 1\n```python\nprint(x)\n```", "x = 1\nprint(x)"),
        ("```python\nx\n```output\n1\n```", "x"),
        ("````python\nx\n```python\ny\n````", "x\n```python\ny"),
        ('```python\ns = """\n```\n"""\n```python\nx\n```', 's = """\n```\n"""\nx'),
        ("First this:\n```python\nx\n```", "First this:\n```python\nx\n```"),
        ("    x = 1\n    if x:\n        x", "x = 1\nif x:\n    x"),
        ("x = '''\n  kept\n'''", "x = '''\n  kept\n'''"),
        ("x = 1\r\nx", "x = 1\nx"),
        ("", ""),
        ("\n \n", ""),
        ("```\n```", ""),
    ],
)
def test_fences_and_indentation(written, meant):
    assert strip_fences(written) == meant


@pytest.mark.parametrize("block", ['```\n"\'""""""\n```\n', "```python\nprint('''x)\n", "~~~\n```\n"])
def test_a_line_is_read_at_most_twice(block, monkeypatch):
    reads = []
    monkeypatch.setattr(code, "_open_quote", lambda quote, line: reads.append(line) or open_quote(quote, line))
    strip_fences(block * 500)
    assert len(reads) <= 2 * block.count("\n") * 500


@given(st.text(alphabet="`~ \nxpython=1'", max_size=60))
def test_fences_never_fail_and_are_stripped_once(written):
    once = strip_fences(written)
    assert len(once) <= len(written)


@given(st.lists(st.text(max_size=40), max_size=30), st.integers(60, 300))
def test_output_is_bounded_and_keeps_both_ends(parts, limit):
    output = Output(limit)
    for part in parts:
        output.write(part)
    whole, shown = "".join(parts), output.text()
    assert len(shown) <= limit
    if len(whole) <= limit:
        assert shown == whole
        return
    head, marked, tail = shown.partition("\n… [")
    count, _, tail = tail.partition(" characters left out] …\n")
    assert marked
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert int(count) == len(whole) - len(head) - len(tail)


GOLDEN = [
    ("1 + 1", "2"),
    ("None", ""),
    ("x = 3", ""),
    ("", ""),
    ("# nothing", ""),
    ("'a\\n'", "'a\\n'"),
    ("print('a'); 'b'", "a\n'b'"),
    ("print('a', end=''); 'b'", "a\n'b'"),
    ("print('a', end='')", "a"),
    ("import sys\nprint('1')\nprint('2', file=sys.stderr)\nprint('3')", "1\n2\n3"),
    ("import sys\nsys.stdout.buffer.write(b'bytes\\xff')\nNone", "bytes\\xff"),
    ("for i in range(3):\n    i", ""),
    ("if True:\n    5", ""),
    ("import numpy as np; np.arange(3)", "array([0, 1, 2])"),
    ("import sympy; sympy.symbols('x') ** 2 + 1", "x**2 + 1"),
    ("__name__", "'__main__'"),
    ("import os; os.getcwd()", "'/work'"),
    ("import sys; sys.path[0]", "'/work'"),
    ("import os; sorted(os.environ)", None),
    ("exit()", "exit() was called; the session continues"),
    ("2 ** 20000 % 1000", "376"),
    ("len(str(2 ** 100000))", "30103"),
    ("import warnings\nfor _ in range(3):\n    warnings.warn('hm')", "<cell 1>:3: UserWarning: hm"),
    (
        "import numpy as np\nint(np.float64(1) / np.float64(0) > 1)",
        "<cell 1>:2: RuntimeWarning: divide by zero encountered in scalar divide\n1",
    ),
    ("'\\ud800'", "'\\ud800'"),
    ("print('\\ud800 é 🙂')", "\\ud800 é 🙂"),
    (
        "class A:\n    def __del__(self):\n        1 / 0\nA()\nNone",
        "Exception ignored in A.__del__: ZeroDivisionError: division by zero",
    ),
]


@pytest.mark.parametrize(("code", "expected"), GOLDEN)
def test_golden(session, code, expected):
    result = run(session, code)
    assert result.error is None, result
    if expected is None:
        expected = "['HOME', 'LANG', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'PYTHONHASHSEED', 'TMPDIR']"
    assert result.text == expected


FAILING = [
    (
        "x = 1\n1 / 0",
        'Traceback (most recent call last):\n  File "<cell 1>", line 2\n    1 / 0\nZeroDivisionError: division by zero',
    ),
    (
        "def f():\n    raise ValueError('no')\nf()",
        'Traceback (most recent call last):\n  File "<cell 1>", line 3\n    f()\n  File "<cell 1>", line 2, in f\n'
        "    raise ValueError('no')\nValueError: no",
    ),
    ("def (:", '  File "<cell 1>", line 1\n    def (:\n        ^\nSyntaxError: invalid syntax'),
    (
        "import json; json.loads('{')",
        "Traceback (most recent call last):\n  File \"<cell 1>\", line 1\n    import json; json.loads('{')\n"
        "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    ),
    (
        "try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('b') from e",
        "KeyError: 'a'\nwhich led to:\nTraceback (most recent call last):\n  File \"<cell 1>\", line 4\n"
        "    raise ValueError('b') from e\nValueError: b",
    ),
    (
        "print('before')\nraise KeyboardInterrupt",
        'before\nTraceback (most recent call last):\n  File "<cell 1>", line 2\n    raise KeyboardInterrupt\nKeyboardInterrupt',
    ),
    ("exit(3)", "exit() was called with 3; the session continues"),
    ("raise SystemExit('bye')", "exit() was called with 'bye'; the session continues"),
]


@pytest.mark.parametrize(("code", "expected"), FAILING)
def test_failing_cells(session, code, expected):
    result = run(session, code)
    assert (result.text, result.error) == (expected, "error")
    assert text(session, "'still here'") == "'still here'"


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("input('name? ')", "EOFError: nobody can type here"),
        ("import sys; sys.stdin.read()", "EOFError"),
        ("def r(n):\n    return r(n + 1)\nr(0)", "RecursionError: maximum recursion depth exceeded"),
        ("a = []\na.append(a)\nclass R:\n    def __repr__(self):\n        return repr(self)\nR()", "RecursionError"),
        ("class R:\n    def __repr__(self):\n        raise ValueError('no repr')\nR()", "ValueError: no repr"),
        ("class R:\n    def __repr__(self):\n        return 3\nR()", "TypeError: __repr__ returned non-string"),
        ("class E(Exception):\n    def __str__(self):\n        1 / 0\nraise E", "E"),
        ("b = bytearray(10 ** 12)", "MemoryError"),
        ("x = []\nwhile True:\n    x.append(bytearray(1 << 20))", "MemoryError"),
        ("raise ExceptionGroup('both', [ValueError(1), TypeError(2)])", "ExceptionGroup: both (2 sub-exceptions)"),
        ("import threading\nthreading.Thread(target=print).start()", "can't start new thread"),
        ("x = 'null \x00 byte'", "null bytes"),
        ("(" * 300, "SyntaxError"),
        ("import nothing_of_this_name", "ModuleNotFoundError"),
    ],
)
def test_errors_that_keep_the_session(session, code, part):
    text(session, "kept = 1")
    result = run(session, code)
    assert result.error == "error"
    assert part in result.text
    assert len(result.text) <= 8000
    assert text(session, "kept") == "1"


def test_a_long_recursion_is_shown_short(session):
    shown = run(session, "def r(n):\n    return r(n + 1)\nr(0)").text
    assert "more frames" in shown
    assert shown.count("\n") < 20


def test_long_output_keeps_head_and_tail(session):
    shown = text(session, "print('begin' + 'x' * 100_000 + 'end')")
    assert shown.startswith("begin")
    assert shown.endswith("end")
    assert "characters left out] …" in shown
    assert len(shown) <= 8000
    shown = run(session, "for i in range(100_000):\n    print(i)\n1 / 0").text
    assert shown.startswith("0\n1\n")
    assert shown.endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    "spoil",
    [
        "sys.stdout.close()",
        "sys.stdout = None",
        "del sys.stdout, sys.stderr, sys.stdin",
        "sys.stdout = open('log', 'w')",
        "sys.stderr = sys.__stderr__ = 3",
        "sys.setrecursionlimit(60)",
        "sys.settrace(lambda *a: 1 / 0)",
        "sys.modules.clear()",
        "__builtins__ = {}",
        "globals().clear()",
        "sys.excepthook = sys.unraisablehook = sys.displayhook = None",
        "import linecache, traceback; linecache.getline = traceback.format_exception_only = None",
        "import os; os.getcwd = os.fork = os._exit = None; os.environ.clear()",
        "import signal; signal.setitimer(signal.ITIMER_REAL, 0.01); signal.signal(signal.SIGALRM, lambda *a: 1 / 0)",
        "import gc; gc.disable(); gc.set_threshold(1)",
    ],
)
def test_what_a_cell_spoils_does_not_reach_the_next(session, spoil):
    run(session, f"import sys\n{spoil}")
    assert run(session, "print(1 + 2)").text == "3"
    (twin,) = session.clone()
    assert run(twin, "print(3)").text == "3"
    twin.close()


def test_names_are_looked_up_late_and_shared_by_all_cells(session):
    text(session, "def f(): return g()")
    assert run(session, "f()").text.endswith("NameError: name 'g' is not defined")
    text(session, "def g(): return 1")
    assert text(session, "f()") == "1"
    text(session, "def g(): return 2")
    assert text(session, "f()") == "2"


def test_classes_of_a_cell_pickle(session):
    text(
        session,
        "import pickle, dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int\np = pickle.loads(pickle.dumps(P(3)))",
    )
    assert text(session, "p, type(p) is P") == "(P(x=3), True)"


def test_the_source_of_a_function_can_be_had(session):
    text(session, "import inspect\ndef f(x):\n    return x")
    assert text(session, "print(inspect.getsource(f))") == "def f(x):\n    return x"


def test_an_error_in_an_earlier_cell_shows_that_cells_line(session):
    text(session, "def f():\n    return 1 / 0")
    assert '  File "<cell 1>", line 2, in f\n    return 1 / 0\n' in run(session, "f()").text


def test_future_features_last(session):
    text(session, "from __future__ import annotations")
    assert text(session, "def f(x: nothing): pass\nf.__annotations__") == "{'x': 'nothing'}"


@pytest.mark.parametrize(
    "loop",
    [
        "while True:\n    n += 1",
        "import time\nn = 7\ntime.sleep(60)",
        "class R:\n    def __repr__(self):\n        while True: pass\nR()",
        "import re\nre.match('(a+)+$', 'a' * 40 + 'b')",
        "while True:\n    try:\n        n += 1\n    except BaseException:\n        pass",
    ],
)
def test_a_soft_time_limit_keeps_the_state(session, loop):
    text(session, "n = 0; kept = 5")
    result = run(session, f"n += 1; print('out')\n{loop}", timeout=0.3)
    assert result.error == "timeout"
    if "had to be stopped" not in result.text:  # a loop that swallows everything may or may not be left
        assert result.text == "out\ntimed out after 0.3 s; the state up to there is kept"
        assert int(text(session, "n")) > 0
    assert text(session, "kept") == "5"


def test_an_error_whose_text_never_ends_is_an_error_in_time(session):
    result = run(session, "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E", timeout=0.3)
    assert result.error in ("error", "timeout")
    assert text(session, "1") == "1"


def test_a_warning_shows_nothing_of_this_machine(session):
    code = "import warnings\nwarnings.simplefilter('always')\nfrom numpy import polyfit\npolyfit([0, 1], [1, 1], 3)\nNone"
    shown = text(session, code)
    assert "Warning: " in shown
    assert "site-packages" not in shown
