"""Checkers by answer type, tolerances and options, and what a hostile answer can do to them: nothing."""

import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo_envs.core import Outcome
from arpo_envs.errors import ConfigError
from arpo_envs.rewards import CHECKERS, HierarchicalReward, Verdict, check
from arpo_envs.rewards import answers as texts
from arpo_envs.rewards.mathematics import judge as mathematics
from arpo_envs.rewards.mathematics.judge import settle
from arpo_envs.rewards.quantities import parse_quantity
from arpo_envs.rewards.signs import plain_signs
from arpo_envs.tasks import Task


def judged(answer: str, *accepted: str, **meta: object) -> bool:
    return check(Task("t", "?", accepted, meta), answer).success


# --- which checker ---------------------------------------------------------------------------------------------


def test_an_unknown_answer_type_names_the_known_ones_and_the_closest():
    with pytest.raises(
        ConfigError, match=r"Unknown answer type 'maths'. Known: choice, math, number, text. Did you mean 'math'"
    ):
        judged("1", "1", answer_type="maths")
    with pytest.raises(ConfigError, match="Unknown answer type"):
        judged("1", "1", answer_type=7)


def test_text_is_judged_when_nothing_else_is_asked_for():
    assert check(Task("t", "?", ("Paris",)), "Paris, France") == Verdict(False, pytest.approx(2 / 3))
    assert set(CHECKERS) == {"text", "math", "number", "choice"}


def test_mathematics_without_its_library_is_an_error_and_never_f1(monkeypatch):
    mathematics._require_library.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install"):
        judged("1", "1", answer_type="math")
    monkeypatch.undo()
    mathematics._require_library.cache_clear()
    assert judged("1", "1", answer_type="math")


def test_any_accepted_answer_will_do():
    assert judged("2", "1", "2", answer_type="math")
    assert judged("x+1", "x", "1+x", answer_type="math")
    assert judged("2 km", "1 km", "2000 m", answer_type="number")
    assert judged("C", "A", "C", answer_type="choice")


def test_the_reward_reads_the_verdict():
    task = Task("t", "?", (r"\frac{1}{2}",), {"answer_type": "math"})
    both = frozenset({"search", "python"})
    rewards = [HierarchicalReward()(task, Outcome(text, well, both)) for text in ("0.5", "5") for well in (True, False)]
    assert [(score.value, score.success) for score in rewards] == [(1.1, 1.0), (-1.0, 1.0), (0.0, 0.0), (-1.0, 0.0)]


# --- numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "tolerance", "relative", "right"),
    [
        ("3.1", 0.05, False, True),
        ("3.09", 0.05, False, True),  # exactly at the edge, in decimal arithmetic
        ("3.08", 0.05, False, False),
        ("3.1", 0.05, True, True),
        ("2.983", 0.05, True, True),
        ("2.98", 0.05, True, False),
        ("-3.14", 0.5, True, False),
        ("0.00314 km", 0.01, False, True),
    ],
)
def test_tolerance(answer, tolerance, relative, right):
    assert judged(answer, "3.14 m", answer_type="number", tolerance=tolerance, relative=relative) is right


@pytest.mark.parametrize(
    "meta", [{"tolerance": -1}, {"tolerance": "a"}, {"tolerance": float("nan")}, {"tolerance": True}, {"relative": 1}]
)
def test_a_tolerance_that_makes_no_sense_is_refused(meta):
    with pytest.raises(ConfigError, match=r"tolerance|relative"):
        judged("1", "1", answer_type="number", **meta)


def test_a_reference_that_is_no_number_is_the_sources_mistake():
    with pytest.raises(ConfigError, match="is not a number"):
        judged("1", "Paris", answer_type="number")


@given(st.fractions(), st.fractions())
def test_two_fractions_are_equal_as_numbers_exactly_when_they_are_equal(one, other):
    assert judged(str(one), str(other), answer_type="number") is (one == other)
    assert judged(f" \\boxed{{{one}}}.", str(one), answer_type="number")


@given(st.integers(), st.integers(min_value=-3, max_value=3))
def test_two_integers_are_equal_exactly_when_they_are_equal(one, gap):
    for kind in ("number", "math"):
        assert judged(f"{one:,}", str(one + gap), answer_type=kind) is (gap == 0)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_python_prints_is_read_back(value):
    quantity = parse_quantity(repr(value))
    assert quantity is not None
    assert float(quantity.value) == value


@given(st.text(max_size=80), st.sampled_from(["math", "number", "choice", "text"]))
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_the_first_look(text, kind):
    assert settle(text, "5") in (True, False, None)
    if kind != "math":
        assert check(Task("t", "?", ("7",) if kind != "choice" else ("B",), {"answer_type": kind}), text).accuracy >= 0


# --- hostile answers -----------------------------------------------------------------------------------------------

HANGS = ["10^{10^{10}}", "10**10**10", "9^{9^{9^{9}}}", "(10^{9})!", r"\binom{10^{9}}{5\cdot 10^{8}}", "2^{3^{20}}"]
BOMB = "__import__('os').system('touch {0}')"


@pytest.mark.parametrize("answer", HANGS)
def test_what_would_take_forever_is_wrong_and_is_never_begun(answer):
    verdict = check(Task("t", "?", ("123456789",), {"answer_type": "math"}), answer)
    assert verdict == Verdict(False, 0.0), "no note: it was decided, not given up when its time was over"


def test_what_does_hang_is_wrong_within_its_time(monkeypatch):
    monkeypatch.setattr(mathematics, "SECONDS", 0.1)
    hard = r"\sin(\sin(\sin(x^{40}+\tan x)))^{50}(1+x+x^2)^{400}"
    verdict = check(Task("t", "?", (rf"\frac{{x^{{2}}-1}}{{x-1}}({hard})",), {"answer_type": "math"}), rf"(x+1)({hard})")
    assert verdict == Verdict(False, 0.0, "timeout")
    monkeypatch.undo()
    assert judged("x+1", "1+x", answer_type="math"), "the next answer is judged as ever"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["math", "number", "choice", "text"])
@pytest.mark.parametrize(
    "answer",
    [
        "(" * 5000,
        "{" * 1000 + "}" * 1000,
        "x" * 100_000,
        "[" + "x" * 1_000_000,
        "1" * 100_000,
        "\\frac{1}" * 3000,
        "5\x00",
        "\x00",
        "\ud800",
        "-" * 1999,
        "1," * 900,
        "1 " * 900,
        "(1" * 900,
        "\\sqrt" * 390,
        "^" * 1999,
        "\\pm" * 600,
        "1" * 1999,
        "$" * 1999,
        "\\text{" * 300,
    ],
)
def test_long_and_broken_answers_are_wrong_and_not_given_up(answer, kind):
    verdict = check(Task("t", "?", ("B" if kind == "choice" else "5",), {"answer_type": kind}), answer)
    assert not verdict.success
    assert not {"timeout", "died"} & set(re.findall(r"\w+", verdict.note))


def test_a_text_far_longer_than_the_accepted_ones_is_not_read_to_its_end(monkeypatch):
    read = []
    monkeypatch.setattr(texts, "plain_signs", lambda text: read.append(text) or plain_signs(text))
    assert check(Task("t", "?", ("Rome", "Roma")), "Rome " * 200_000) == Verdict(False, 0.0)
    assert not any(len(text) > 10_000 for text in read)
    monkeypatch.undo()
    long = "word " * 4000
    assert check(Task("t", "?", (long,)), long).success
    assert check(Task("t", "?", (long,)), "well " + long).accuracy > 0.9
    assert check(Task("t", "?", ()), "x" * 20_000) == Verdict(False, 0.0)
    assert check(Task("t", "?", ("Rome",)), " " * 5000 + "Rome").success


@pytest.mark.parametrize(
    "template",
    [
        BOMB,
        "\\boxed{{" + BOMB + "}}",
        "${0}$",
        "\\text{{" + BOMB + "}}",
        "\\operatorname{{" + BOMB + "}}(5)",
        "5+" + BOMB,
        "[c for c in ().__class__.__base__.__subclasses__()]",
        "Symbol('x', cls=" + BOMB + ")",
        "x_{{" + BOMB + "}}",
    ],
)
def test_nothing_is_executed(template, tmp_path):
    flag = tmp_path / "flag"
    for kind in ("math", "number", "choice", "text"):
        assert not judged(template.format(flag), "B" if kind == "choice" else "5", answer_type=kind)
    assert not flag.exists()


# --- a source's own scorer ------------------------------------------------------------------------------------------

SCORERS = """
import os, time

def half(task, answer): return 0.5 if answer == task.answers[0] else 0.0
def naive(task, answer): return float(eval(answer) == eval(task.answers[0]))
def raises(task, answer): raise KeyError(answer)
def raises_on_x(task, answer): return 1 / (answer != "x")
def sleeps(task, answer): time.sleep(60)
def strange(task, answer): return 3
def environment(task, answer): return float("SECRET" in os.environ)
def dies(task, answer): os._exit(3)
number = 5
"""


@pytest.fixture(scope="module")
def scorers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorers")
    (folder / "own_scorers.py").write_text(SCORERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("SECRET", "1")
        yield lambda name, answer: check(Task("t", "?", ("1",), {"scorer": f"own_scorers:{name}"}), answer)


def test_a_scorer_of_ones_own(scorers):
    assert scorers("half", "1") == Verdict(False, 0.5)
    assert scorers("half", "2") == Verdict(False, 0.0)
    assert scorers("naive", "2-1") == Verdict(True, 1.0)
    assert scorers("environment", "1").accuracy == 0.0


@pytest.mark.parametrize(
    "attack",
    [
        "__import__('os').system('touch FLAG') + 1",
        "__import__('subprocess').run(['touch', 'FLAG']) and 1",
        "open('FLAG', 'w') and 1",
        "__import__('os').open('FLAG', 65) and 1",
        "__import__('os').fork() * 0 + 1",
        "__import__('socket').socket() and 1",
        "__import__('ctypes').CDLL(None) and 1",
        "__import__('os').mkdir('FLAG') or 1",
        "__import__('os').kill(__import__('os').getppid(), 9) or 1",
    ],
)
def test_a_naive_scorer_executes_nothing_that_matters(scorers, tmp_path, attack):
    assert not scorers("naive", attack.replace("FLAG", str(tmp_path / "flag"))).success
    assert not (tmp_path / "flag").exists()
    assert scorers("naive", "1").success


def test_a_scorer_that_raises_on_an_answer_says_so_and_one_that_always_raises_is_an_error(scorers):
    assert scorers("raises_on_x", "x") == Verdict(False, 0.0, "the scorer raised ZeroDivisionError: division by zero")
    with pytest.raises(ConfigError, match="KeyError"):
        scorers("raises", "2")


def test_a_scorer_that_dies_is_a_wrong_answer(scorers):
    assert "died" in scorers("dies", "2").note


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ("own_scorers:strange", r"in \[0, 1\]"),
        ("own_scorers:nothing", "nothing"),
        ("own_scorers:number", "not a function"),
        ("no_such_module:f", "no_such_module"),
        ("own_scorers", "package.module:function"),
        (7, "package.module:function"),
    ],
)
def test_a_scorer_that_is_none(scorers, scorer, message):
    with pytest.raises(ConfigError, match=message):
        check(Task("t", "?", ("1",), {"scorer": scorer}), "1")


# --- without a process -------------------------------------------------------------------------------------------


def test_the_usual_answer_needs_no_worker(monkeypatch):
    pairs = [
        ("204", "204"),
        (r"\boxed{204}", "204"),
        ("025", "25"),
        (r"\frac{1}{2}", r"\dfrac{1}{2}"),
        ("7", "8"),
        ("0.5", "1/2 "),
    ]
    assert [settle(*pair) for pair in pairs] == [True, True, True, True, False, None]
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(mathematics, "_equivalent", lambda *pair: asked.append(pair) is None)
    for answer, expected in pairs:
        check(Task("t", "?", (expected,), {"answer_type": "math"}), answer)
    assert asked == [("0.5", "1/2 ")]


def test_verdicts_and_tasks_are_plain_values():
    verdict = check(Task("t", "?", ("B",), {"answer_type": "choice", "options": ["x", "y"]}), "y")
    assert pickle.loads(pickle.dumps(verdict)) == verdict == Verdict(True, 1.0)
