"""Questions of `DeepQuestions`: graded by pages and steps, exact, and answerable with all three tools only."""

import ast
import itertools
import pickle
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from arpo_envs.errors import ConfigError
from arpo_envs.rewards.checking import check
from arpo_envs.tasks import Demonstrable, TaskSource
from arpo_envs.tasks.deep import DeepQuestions
from arpo_envs.tasks.deep.computing import rounded
from arpo_envs.tasks.world import SPLITS, Habits, load_world
from arpo_envs.tools.browser import Page, read
from arpo_envs.tools.browser.page import without_links

KINDS = [("short", difficulty) for difficulty in range(1, 6)] + [("long", 1), ("long", 5)]
CALLS = {("short", 1): 3, ("short", 2): 4, ("short", 3): 6, ("short", 4): 8, ("short", 5): 12, ("long", 1): 37, ("long", 5): 53}
PAGES = {("short", 1): 1, ("short", 2): 2, ("short", 3): 3, ("short", 4): 5, ("short", 5): 8, ("long", 1): 18, ("long", 5): 26}
HOPS = {1: 1, 2: 2, 3: 2, 4: 3, 5: 3}
HABITS = {"good": 0.0, "stops_early": 0.0, "guesses": 0.0, "wrong_fact": 0.0, "repeats": 0.0}
every_kind = pytest.mark.parametrize(("horizon", "difficulty"), KINDS)


def source(
    horizon: str = "short", difficulty: int = 1, *, split: str = "test", world: str = "real", **more: Any
) -> DeepQuestions:
    return DeepQuestions(horizon=horizon, difficulty=difficulty, split=split, world=load_world(5, world), **more)


def drawn(questions: DeepQuestions, count: int = 60) -> list[Any]:
    rng = np.random.default_rng(3)
    return [questions.draw(rng) for _ in range(count)]


def shown(questions: DeepQuestions, url: str) -> str:
    page = read(questions.site, url)
    assert isinstance(page, Page)
    return without_links(page.text)


def run(code: str) -> object:
    """Returns what a notebook shows of a cell."""
    *statements, last = ast.parse(code.replace("; ", "\n")).body
    names: dict[str, object] = {}
    exec(compile(ast.Module(statements, []), "cell", "exec"), names)  # noqa: S102
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


@every_kind
@pytest.mark.parametrize("split", SPLITS)
def test_the_code_computes_the_answer_from_numbers_on_the_pages(horizon: str, difficulty: int, split: str) -> None:
    questions = source(horizon, difficulty, split=split)
    for task in drawn(questions, 30):
        assert str(run(task.meta["code"])) == task.answers[0]
        assert check(task, task.answers[0]).success
        ends = [path[-1] for path in task.meta["entities"]]
        for end, relations, value in zip(ends, task.meta["relations"], task.meta["values"], strict=False):
            text = shown(questions, questions.site.url(questions.world.number(end)))
            line = next(line for line in text.split("\n") if line.startswith(f"  * {relations[-1]}: "))
            assert line.partition(": ")[2].split(" ")[0].replace(",", "") == value
            assert str(int(value)) in task.meta["code"]


@every_kind
def test_pages_calls_and_hops_grow_with_difficulty(horizon: str, difficulty: int) -> None:
    kind = (horizon, difficulty)
    for task in drawn(source(*kind), 20):
        assert len(set(task.meta["pages"])) == len(task.meta["pages"]) == PAGES[kind]
        assert task.meta["optimal_calls"] == CALLS[kind] == len(task.meta["queries"]) + PAGES[kind] + 1
        assert task.meta["hops"] == (1 if horizon == "long" else HOPS[difficulty])
        if horizon == "long":
            assert PAGES[kind] + 2 >= 20, "one opening for each page, a search and a cell"


@every_kind
def test_no_page_on_the_way_and_no_result_of_a_search_tells_the_answer(horizon: str, difficulty: int) -> None:
    questions = source(horizon, difficulty)
    for task in drawn(questions, 20):
        numbers = {word.replace(",", "") for url in task.meta["pages"] for word in shown(questions, url).split()}
        assert task.answers[0] not in numbers
        for query in task.meta["queries"]:
            hits = questions.site.search(query, 5, timeout=1.0)
            assert isinstance(hits, list)
            assert hits[0].title == query
            assert {hit.summary for hit in hits} <= {"city", "country", "chemical element"}


@pytest.mark.parametrize("difficulty", [2, 3, 4, 5])
def test_every_link_on_the_way_is_needed(difficulty: int) -> None:
    questions = source(difficulty=difficulty)
    for task in drawn(questions, 40):
        ways = [[questions.site.url(questions.world.number(entity)) for entity in path] for path in task.meta["entities"]]
        links = {url: read(questions.site, url).links for url in task.meta["pages"]}  # type: ignore[union-attr]
        for way in ways:
            assert all(after in links[before] for before, after in itertools.pairwise(way))
            assert not any(later in links[url] for i, url in enumerate(way) for later in way[i + 2 :])
        for one, other in itertools.permutations(ways, 2):
            assert not any(url in links[before] for before in one for url in other)


@pytest.mark.parametrize("horizon", ["short", "long"])
def test_splits_share_no_page(horizon: str) -> None:
    difficulties = range(1, 6) if horizon == "short" else [1]
    seen = {
        split: {page for d in difficulties for task in drawn(source(horizon, d, split=split)) for page in task.meta["pages"]}
        for split in SPLITS
    }
    assert all(seen[a].isdisjoint(seen[b]) for a, b in itertools.combinations(SPLITS, 2))


@pytest.mark.turns("split")
@every_kind
@pytest.mark.parametrize("split", SPLITS)
def test_no_single_answer_pays(horizon: str, difficulty: int, split: str) -> None:
    assert source(horizon, difficulty, split=split).majority_baseline() <= 0.02


def test_the_baseline_is_the_share_of_the_most_frequent_answer() -> None:
    questions = source()
    counted = Counter(task.answers[0] for task in drawn(questions, 2000))
    assert questions.majority_baseline() == pytest.approx(max(counted.values()) / 2000, abs=0.006)


def test_difficulty_1_needs_only_short_numbers_that_the_lexicon_has() -> None:
    questions = source()
    words = set(questions.lexicon())
    assert isinstance(questions, Demonstrable)
    assert isinstance(questions, TaskSource)
    for task in drawn(questions):
        assert {*task.meta["values"], *task.meta["queries"]} <= words
        assert all(10 <= int(value) <= 999 for value in task.meta["values"])


def test_counterfactual_numbers_differ() -> None:
    real, other = source(), source(world="counterfactual")
    germany = real.world.number("country-DE")
    assert real.world.fact(germany, "calling code") != other.world.fact(germany, "calling code")
    for task in drawn(other, 20):
        assert str(run(task.meta["code"])) == task.answers[0]


def test_ids_are_names_of_questions() -> None:
    questions = source("short", 3)
    task = drawn(questions, 1)[0]
    assert questions.get(task.id) == task == pickle.loads(pickle.dumps(questions)).get(task.id)
    for wrong in ("test-short-3-", "test-short-3-01", "train-short-3-5", "test-long-3-5", f"test-short-3-{1 << 32}", "junk"):
        with pytest.raises(ConfigError, match="has no question"):
            questions.get(wrong)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"difficulty": 0}, "between 1 and 5"),
        ({"difficulty": True}, "between 1 and 5"),
        ({"horizon": "lang"}, "Did you mean 'long'"),
        ({"split": "tset"}, "Did you mean 'test'"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        source(**arguments)


@pytest.mark.parametrize(
    ("habit", "moves"),
    [
        ("good", ["search", "browser.open", "python", "answer"]),
        ("stops_early", ["search", "browser.open", "answer"]),
        ("repeats", ["search", "search", "browser.open", "answer"]),
        ("wrong_fact", ["search", "browser.open", "python", "answer"]),
        ("guesses", ["answer"]),
    ],
)
def test_habits(habit: str, moves: list[str]) -> None:
    questions = source(habits=Habits(**{**HABITS, habit: 1.0}))
    for task in drawn(questions, 5):
        made = questions.demonstrate(task, np.random.default_rng(0))
        assert [move for move, _ in made] == moves
        assert (made[-1][1] == task.answers[0]) == (habit == "good") or habit == "guesses"
        assert [move for move, _ in questions.demonstrate(task, np.random.default_rng(0), perfect=True)][-1] == "answer"


def test_rounding_is_that_of_the_exact_number_and_never_near_a_tie() -> None:
    assert rounded(Fraction(200, 3), 2) == "66.67"
    assert rounded(Fraction(12, 4), 3) == "3.0"
    assert rounded(Fraction(1, 8), 2) is None
    assert rounded(Fraction(10005, 10000), 3) is None
