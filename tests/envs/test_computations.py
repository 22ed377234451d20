"""Computational questions: two ways to every answer agree, splits are disjoint, and no answer dominates."""

import copy
import pickle
import re
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from exec_tool import ExecSession

from arpo_envs.errors import ConfigError
from arpo_envs.rewards.checking import check
from arpo_envs.tasks import Demonstrable, Task, TaskSource
from arpo_envs.tasks.computations import algebra as algebra
from arpo_envs.tasks.computations import data as data
from arpo_envs.tasks.computations import numbers as numbers
from arpo_envs.tasks.computations.families import DIFFICULTIES, SMALL
from arpo_envs.tasks.computations.source import FAMILIES, ComputationSource
from arpo_envs.tasks.deep import DeepQuestions
from arpo_envs.tasks.world.questions import Habits

SPLITS = ("train", "validation", "test")


def some(source: ComputationSource, count: int, seed: int = 0) -> list[Task]:
    rng = np.random.default_rng(seed)
    return [source.draw(rng) for _ in range(count)]


def shown(task: Task) -> tuple[str, ...]:
    """Runs the demonstrator's cells and returns what they show."""
    session = ExecSession()
    return tuple(session.call("python", {"code": cell}, timeout=10.0).text for cell in task.meta["cells"])


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_cells_find_what_the_reference_says(family: str, difficulty: int) -> None:
    for task in some(ComputationSource(difficulty=difficulty, families=[family]), 4 if difficulty == 1 else 2):
        assert shown(task) == task.meta["values"]
        assert task.answers == (task.meta["values"][-1],)


GOLDEN = {
    "the digits of 99": (numbers.digit_sum(99), 18),
    "561 is no prime": (numbers.is_prime(561), False),
    "2^61 - 1 is prime": (numbers.is_prime(2**61 - 1), True),
    "primes below 50": (sum(map(numbers.is_prime, range(50))), 15),
    "powers of 2 modulo 7: 2, 4, 1": (numbers._order(2, 7), 3),
    "1 + 4 + 9": (numbers._power_sum(3, 2), 14),
    "1 + 8 + 27": (numbers._power_sum(3, 3), 36),
    "3, 12, 21, 30": (numbers._with_digit_sum(30, 3), 4),
    "00 to 99 with the sum 3": (numbers._compositions(3, 2), 4),
    "not 10 + 0": (numbers._compositions(10, 2), 9),
    "12, 14, 23, 34 of 1 to 4 by 3 and 5, not 13, 24": (numbers._pairs(4, 3), 2),
    "6 paths over 2 by 2, 4 of them through (1, 1)": (numbers._paths(2, 2, {(1, 1)}), 2),
    "5, 2 + 2 + 1, 2 + 1 + 1 + 1, five ones": (numbers._payments(5, (1, 2, 5)), 4),
    "the centre and its six neighbours": (numbers._ball(1), 7),
    "determinant": (algebra.determinant([[1, 2], [3, 4]]), -2),
    "determinant of three": (algebra.determinant([[2, 0, 0], [0, 3, 1], [5, 0, 4]]), 24),
    "Fibonacci": (algebra._power([[1, 1], [1, 0]], 10, 0)[0][1], 55),
    "Fibonacci modulo 7": (algebra._power([[1, 1], [1, 0]], 10, 7)[0][1], 6),
    "2, 5, 4, 6, 4 modulo 11": (algebra._cycle(2, 1, 11), 2),
    "0, 1, 2, 5, 5 modulo 7": (algebra._cycle(0, 1, 7), 1),
    "an equation": (algebra._equation([2, -1, 0, 1], "uvwz", -7), "2u - v + z = -7"),
    "a polynomial": (algebra._polynomial([-1, 0, 3, -2]), "-t^3 + 3 t - 2"),
    "1 January 2000 was a Saturday": (data._weekday(2000, 1, 1), 6),
    "366 days after it was 1 January 2001": (data._day_of_month(366), 1),
    "59 days after it was 29 February": (data._day_of_month(59), 29),
    "7, 17, 27, …, 67, 70 to 79 with 77 twice, 87, 97": (data._sevens(100), 20),
    "a, b, n, an, na, ana, ban, … of banana": (data._substrings("banana"), 15),
    "aa, ab, ba of aba": (data._subsequences("aba", 2), 3),
    "the second waits 4 minutes, the third 8": (data._waiting((1, 2, 3), (5, 5, 5), 1), 12),
    "two clerks: only the third waits, for 3": (data._waiting((1, 2, 3), (5, 5, 5), 2), 3),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_values_worked_by_hand(name: str) -> None:
    found, expected = GOLDEN[name]
    assert found == expected


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_answers_are_judged_by_their_type(difficulty: int) -> None:
    kinds = set()
    for task in some(ComputationSource(difficulty=difficulty, families=["big_integers", "linear_systems", "calendar"]), 12):
        kinds.add(task.meta["answer_type"])
        assert check(task, task.answers[0]).success
        if task.meta["answer_type"] == "math":
            value = Fraction(task.answers[0])
            assert check(task, rf"\frac{{{value.numerator}}}{{{value.denominator}}}").success
            assert not check(task, str(value + 1)).success
        elif task.meta["answer_type"] == "number":
            assert check(task, f"{int(task.answers[0]):,}").success
            assert not check(task, str(int(task.answers[0]) + 1)).success
    assert kinds == ({"number"} if difficulty < 4 else {"number", "math"} if difficulty == 4 else {"number", "math", "text"})


# --- splits and ids -------------------------------------------------------------------------------


@pytest.mark.parametrize("difficulty", [1, 2])
def test_splits_share_no_definition_of_x(difficulty: int) -> None:
    found = {}
    for split in SPLITS:
        tasks = some(ComputationSource(difficulty=difficulty, split=split, families=["matrices", "calendar", "data"]), 150)
        found[split] = {task.question[: task.question.rindex("What is")] for task in tasks}
    assert not found["train"] & found["test"]
    assert not found["train"] & found["validation"]
    assert not found["test"] & found["validation"]


def test_every_index_lies_in_exactly_one_split() -> None:
    count: Counter[str] = Counter()
    sources = {split: ComputationSource(split=split, families=["matrices"]) for split in SPLITS}
    for index in range(400):
        owners = []
        for split, source in sources.items():
            try:
                owners.append((split, source.get(f"matrices-1-{index}")))
            except ConfigError:
                continue
        assert len(owners) == 1
        count[owners[0][0]] += 1
    for split, share in {"train": 0.60, "validation": 0.15, "test": 0.25}.items():
        assert count[split] / 400 == pytest.approx(share, abs=0.09)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_every_drawn_question_is_found_again_by_its_id(difficulty: int) -> None:
    source = ComputationSource(difficulty=difficulty, families=["modular_powers", "texts", "data"])
    for task in some(source, 6):
        assert source.get(task.id) == task


@pytest.mark.parametrize(
    "task_id",
    [
        *("", "matrices", "matrices-1", "matrices-1-", "matrices-1-x", "matrices-1-007", "matrices-2-7", "primes-1-7"),
        *("matrices-1-²", f"matrices-1-{1 << 40}", "matrices-1--7", "matrices-1-7-7"),
    ],
)
def test_ids_of_other_sources_and_nonsense_are_refused(task_id: str) -> None:
    with pytest.raises(ConfigError, match="An id it has: 'matrices-1-"):
        ComputationSource(families=["matrices"]).get(task_id)


def test_drawing_is_a_function_of_the_generator() -> None:
    source = ComputationSource()
    assert some(source, 20, seed=1) == some(source, 20, seed=1) != some(source, 20, seed=2)


@pytest.mark.parametrize("split", SPLITS)
def test_no_answer_exceeds_two_percent(split: str) -> None:
    count = Counter(task.answers[0] for task in some(ComputationSource(split=split), 600))
    assert max(count.values()) <= 0.02 * 600


@pytest.mark.parametrize("family", FAMILIES)
def test_no_answer_of_one_family_exceeds_two_percent(family: str) -> None:
    count = Counter(task.answers[0] for task in some(ComputationSource(families=[family]), 400))
    assert max(count.values()) <= 0.02 * 400


def test_neither_the_question_nor_the_first_value_gives_the_answer_away() -> None:
    tasks = some(ComputationSource(), 500)
    assert sum(task.answers[0] in re.findall(r"\d+", task.question) for task in tasks) < 0.03 * 500
    assert sum(task.answers[0] == task.meta["values"][0] for task in tasks) < 0.02 * 500


# --- the source -----------------------------------------------------------------------------------


def test_sources_are_shared_and_pickle_by_their_arguments() -> None:
    source = ComputationSource(difficulty=3, split="test", families=["primes", "data"], habits=Habits(1.0, 0, 0, 0, 0))
    assert isinstance(source, TaskSource)
    assert isinstance(source, Demonstrable)
    assert copy.deepcopy(source) is source
    twin = pickle.loads(pickle.dumps(source))
    assert (twin.name, twin.habits, twin.families) == (source.name, source.habits, source.families)
    tasks = some(source, 3)
    assert some(twin, 3) == pickle.loads(pickle.dumps(tasks)) == tasks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"difficulty": 0}, "between 1 and 5"),
        ({"difficulty": True}, "between 1 and 5"),
        ({"split": "tets"}, "Did you mean 'test'"),
        ({"families": ["prime"]}, "Did you mean 'primes'"),
        ({"families": "primes"}, r"Write \['primes'\]"),
        ({"families": []}, "no questions"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ComputationSource(**arguments)  # type: ignore[arg-type]


def test_higher_difficulties_take_more_steps_and_longer_numbers() -> None:
    cells, digits = [], []
    for difficulty in DIFFICULTIES:
        tasks = some(ComputationSource(difficulty=difficulty, families=["modular_powers", "recurrences"]), 6)
        cells.append({len(task.meta["cells"]) for task in tasks})
        digits.append(float(np.mean([len(task.answers[0]) for task in tasks])))
    assert cells == [{2}, {2}, {3}, {3}, {4}]
    assert digits == sorted(digits)


# --- demonstrations -------------------------------------------------------------------------------


def test_a_small_policy_can_copy_every_number_of_the_easy_questions() -> None:
    lexicon = set(ComputationSource().lexicon())
    assert lexicon == {str(number) for number in SMALL}
    for task in some(ComputationSource(), 300):
        assert set(task.meta["values"]) <= lexicon
        asked = re.findall(r"\d{2,3}(?!\d)", task.question.replace("2000", "").replace(" 1 January", ""))
        for cell in task.meta["cells"]:
            assert "\n" not in cell
            assert ">" not in cell, "the embedded policy's tokenizer puts a space behind it"
            for found in re.finditer(r"(?<![\d.])\d{2,3}(?!\d)", cell):
                assert found[0] in asked, cell
                assert found.start() == 0 or cell[found.start() - 1] == " ", f"{found[0]} in {cell!r} is not one token"


def test_habits_have_the_shares_they_say() -> None:
    source = ComputationSource(habits=Habits(good=0.2, stops_early=0.6, guesses=0.05, wrong_fact=0.05, repeats=0.1))
    task = next(task for task in some(source, 20) if len(set(task.meta["values"])) == 2)
    rng = np.random.default_rng(0)
    first, second = (("python", cell) for cell in task.meta["cells"])
    early, right = (("answer", value) for value in task.meta["values"])
    kinds = {
        (first, second, right): "good",
        (first, early): "stops_early",
        (first, first, early): "repeats",
        (first, second, early): "wrong_fact",
    }
    count = Counter(kinds.get(tuple(source.demonstrate(task, rng)), "guesses") for _ in range(3000))
    for name, share in {"good": 0.2, "stops_early": 0.6, "guesses": 0.05, "wrong_fact": 0.05, "repeats": 0.1}.items():
        assert count[name] / 3000 == pytest.approx(share, abs=0.03)


def test_a_guess_is_a_number_that_could_be_right() -> None:
    source = ComputationSource(habits=Habits(good=0, stops_early=0, guesses=1, wrong_fact=0, repeats=0))
    (move,) = source.demonstrate(some(source, 1)[0], np.random.default_rng(0))
    assert move[0] == "answer"
    assert int(move[1]) in SMALL


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_a_perfect_demonstrator_is_always_right(difficulty: int) -> None:
    source = ComputationSource(difficulty=difficulty, families=["texts"])
    for task in some(source, 3):
        *calls, last = source.demonstrate(task, np.random.default_rng(0), perfect=True)
        assert last == ("answer", task.answers[0])
        assert [code for _, code in calls] == list(task.meta["cells"])


@pytest.mark.parametrize("kind", [ComputationSource, DeepQuestions])
def test_a_difficulty_is_a_whole_number(kind: type[ComputationSource | DeepQuestions]) -> None:
    for wrong in (2.0, np.float64(2), True, np.True_, "2", None, 0, 6):
        with pytest.raises(ConfigError, match="whole number between 1 and 5, got"):
            kind(difficulty=wrong)  # type: ignore[arg-type]
    one, other = kind(difficulty=2), kind(difficulty=np.int64(2))  # type: ignore[arg-type]
    assert (other.name, type(other.difficulty)) == (one.name, int)
    assert other.draw(np.random.default_rng(0)) == one.draw(np.random.default_rng(0))
