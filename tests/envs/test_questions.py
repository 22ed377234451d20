"""Generated questions: disjoint splits, no dominant answer, and every gold path really works."""

import copy
import pickle
from collections import Counter

import numpy as np
import pytest

from arpo_envs.errors import ConfigError
from arpo_envs.rewards.answers import normalise
from arpo_envs.tasks import Demonstrable, Task, TaskSource
from arpo_envs.tasks.text import fold
from arpo_envs.tasks.world.chains import ASKED, chains
from arpo_envs.tasks.world.corpus import SPLITS, load_world
from arpo_envs.tasks.world.questions import Habits, QuestionSource
from arpo_envs.tasks.world.variants import accepted
from arpo_envs.tools.search import SearchTool

SIZES = [10, None]
HOPS = [1, 2, 3, 4]


def source(hops: int = 2, split: str = "train", size: int | None = 10, facts: str = "real", **others: object) -> QuestionSource:
    return QuestionSource(hops=hops, split=split, world=load_world(size, facts), **others)  # type: ignore[arg-type]


def some(questions: QuestionSource, count: int, seed: int = 0) -> list[Task]:
    rng = np.random.default_rng(seed)
    return [questions.draw(rng) for _ in range(count)]


def all_paths(questions: QuestionSource) -> tuple[set[str], set[str]]:
    """Returns the ids and the folded names of everything on any question's path, without writing out every question."""
    world, table = questions.world, questions._questions
    ids: set[str] = set()
    names: set[str] = {fold(answer) or answer for answer in questions.answers()}
    starts: dict[int, set[int]] = {}
    for group, chain in enumerate(table.chain_of):
        starts.setdefault(chain, set()).update(table.starts[table.starts_of[group] : table.starts_of[group + 1]].tolist())
    for chain, group_starts in starts.items():
        relations = table.chains[chain].relations
        level = group_starts
        for relation in (*relations, None):
            ids.update(world.ids[entity] for entity in level)
            names.update(fold(world.names[entity]) for entity in level)
            if relation is None or not level:
                break
            level = {target for entity in level if (target := world.target(entity, relation)) >= 0}
    return ids, names


@pytest.mark.parametrize("facts", ["real", pytest.param("counterfactual", marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", SIZES)
def test_splits_share_no_entity_and_no_name_whatever_the_hops(size: int | None, facts: str) -> None:
    found: dict[str, tuple[set[str], set[str]]] = {}
    for split in SPLITS:
        parts = [all_paths(source(hops, split, size, facts)) for hops in HOPS]
        found[split] = (set().union(*(ids for ids, _ in parts)), set().union(*(names for _, names in parts)))
        assert len(found[split][0]) > 200
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not found[one][0] & found[other][0]
        assert not found[one][1] & found[other][1]


@pytest.mark.parametrize("size", SIZES)
def test_names_on_paths_are_unambiguous(size: int | None) -> None:
    world = load_world(size)
    owners = Counter(fold(name) for name in world.names)
    for hops in HOPS:
        ids, _ = all_paths(source(hops, "test", size))
        assert all(owners[fold(world.names[world.number(i)])] == 1 for i in ids)


@pytest.mark.turns("facts")
@pytest.mark.parametrize("facts", ["real", "counterfactual"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("hops", HOPS)
def test_no_answer_exceeds_two_percent(hops: int, split: str, size: int | None, facts: str) -> None:
    questions = source(hops, split, size, facts)
    assert len(questions.answers()) == len(set(questions.answers())) >= 60
    assert 1 / len(questions.answers()) <= questions.majority_baseline() <= 0.02


def test_the_majority_baseline_agrees_with_counting() -> None:
    questions = source(1, "validation", relations=["ISO code", "internet domain", "calling code"])
    count: Counter[str] = Counter()
    draws = some(questions, 20_000)
    for task in draws:
        count.update({normalise(text) for text in task.answers})
    assert questions.majority_baseline() == pytest.approx(max(count.values()) / len(draws), rel=0.25)
    assert questions.majority_baseline() > 1.5 / len(questions.answers()), "'fr' answers both .fr and FRA"


def test_answers_are_drawn_uniformly() -> None:
    questions = source(2, "validation", relations=["country", "capital", "currency"])
    answers = questions.answers()
    count = Counter(task.answers[0] for task in some(questions, 300 * len(answers)))
    assert set(count) == set(answers)
    assert max(count.values()) < 300 + 6 * 300**0.5
    assert min(count.values()) > 300 - 6 * 300**0.5


@pytest.mark.turns("facts")
@pytest.mark.parametrize("facts", ["real", "counterfactual"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("hops", HOPS)
def test_the_gold_path_replayed_through_the_real_tool_shows_the_answer(hops: int, size: int | None, facts: str) -> None:
    world = load_world(size, facts)
    tool = SearchTool(world, results=1)
    for task in some(source(hops, "test", size, facts), 60):
        path, relations = task.meta["path"], task.meta["relations"]
        assert len(task.meta["queries"]) == len(relations) == hops
        for query, shown, relation in zip(path[:-1], path[1:], relations, strict=True):
            text = tool.call("search", {"query": query}, timeout=1.0).text
            heading = f"{query}: city in {shown}"
            assert text.startswith(f"{query}: ")
            assert f"; {relation} {shown}" in text or (relation == "country" and text.startswith(heading))
        assert task.answers[0] == path[-1]
        assert task.answers[0] not in task.question


@pytest.mark.parametrize("hops", [2, 3, 4])
def test_no_earlier_document_of_the_path_shows_the_answer(hops: int) -> None:
    world = load_world(10)
    for task in some(source(hops), 200):
        for entity in task.meta["entities"][:-1]:
            text = world.document(world.number(entity)).text
            assert not any(f" {task.answers[0]}{end}" in text for end in ";.")


def test_wording_uses_the_key_words_of_the_documents() -> None:
    questions = source(2, "test")
    task = questions.get("city-2886242/country/capital")
    assert task.question == "What is the capital of the country of Köln?"
    assert task.answers == ("Berlin",)
    assert task.meta["path"] == ("Köln", "Germany", "Berlin")
    assert task.meta["queries"] == ("Köln", "Germany")


@pytest.mark.parametrize("hops", HOPS)
def test_every_drawn_question_is_found_again_by_its_id(hops: int) -> None:
    questions = source(hops)
    for task in some(questions, 30):
        assert questions.get(task.id) == task


def test_questions_are_enumerated_once_each() -> None:
    questions = source(2, "validation")
    ids = [task.id for task in questions.questions()]
    assert len(ids) == len(set(ids)) == len(questions)


@pytest.mark.parametrize(
    "task_id",
    ["", "Paris", "city-2886242", "city-2886242/country", "city-2886242/country/currency/x", "country-FR/capital/time_zone"],
)
def test_ids_of_other_splits_and_nonsense_are_refused(task_id: str) -> None:
    with pytest.raises(ConfigError):
        source(2, "test").get(task_id)


def test_drawing_is_a_function_of_the_generator() -> None:
    questions = source(3)
    assert some(questions, 50, seed=1) == some(questions, 50, seed=1) != some(questions, 50, seed=2)


def test_sources_are_shared_and_pickle_by_their_arguments() -> None:
    habits = Habits(good=1.0, stops_early=0, guesses=0, wrong_fact=0, repeats=0)
    questions = source(2, relations=["country", "capital"], habits=habits)
    assert isinstance(questions, TaskSource)
    assert isinstance(questions, Demonstrable)
    assert copy.deepcopy(questions) is questions
    content = pickle.dumps(questions)
    assert len(content) < 2000
    twin = pickle.loads(content)
    assert twin.name == questions.name
    assert twin.habits == questions.habits
    assert some(twin, 20) == some(questions, 20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hops": 5}, "between 1 and 4"),
        ({"split": "tets"}, "Did you mean 'test'"),
        ({"relations": ["capitol"]}, "Did you mean 'capital'"),
        ({"relations": "capitol"}, "Did you mean 'capital'"),
        ({"hops": 4, "size": 2}, "guessing would pay"),
        ({"hops": 3, "relations": ["capital"]}, "no such question"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        source(**arguments)  # type: ignore[arg-type]


def test_chains_follow_distinct_relations() -> None:
    for hops in HOPS:
        found = list(chains(hops, ASKED))
        assert len({(chain.kind, chain.relations) for chain in found}) == len(found)
        assert all(len(set(chain.relations)) == hops for chain in found)


def test_the_lexicon_holds_every_short_answer_and_name() -> None:
    lexicon = set(source(2, "train").lexicon())
    assert {"Paris", "Euro", "33", ".fr", "FRA", "Europe/Paris", "Oxygen", "O"} <= lexicon
    for split in SPLITS:
        for task in some(source(3, split), 200):
            assert set(task.meta["queries"]) <= lexicon
            assert task.answers[0] in lexicon or task.meta["relations"][-1] in {"population", "area"}


def test_habits_have_the_shares_they_say() -> None:
    questions = source(2)
    task = some(questions, 1)[0]
    rng = np.random.default_rng(0)
    early = task.meta["path"][1]
    kinds: Counter[str] = Counter()
    for _ in range(4000):
        moves = questions.demonstrate(task, rng)
        assert moves[-1][0] == "answer"
        assert all(kind == "search" for kind, _ in moves[:-1])
        queries = [text for _, text in moves[:-1]]
        if queries == list(task.meta["queries"]):
            kinds["good" if moves[-1][1] == task.answers[0] else "wrong_fact"] += 1
        elif not queries:
            kinds["guesses"] += 1
        else:
            assert moves[-1][1] == early
            kinds["stops_early" if len(queries) == 1 else "repeats"] += 1
    for name, share in {"good": 0.12, "stops_early": 0.78, "guesses": 0.04, "wrong_fact": 0.02, "repeats": 0.04}.items():
        assert kinds[name] / 4000 == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("hops", HOPS)
def test_demonstrations_work_for_all_hops(hops: int) -> None:
    questions = source(hops)
    rng = np.random.default_rng(0)
    for task in some(questions, 50):
        moves = questions.demonstrate(task, rng)
        assert 1 <= len(moves) <= hops + 2


def test_habits_must_sum_to_one() -> None:
    with pytest.raises(ConfigError, match="sum to 1"):
        Habits(good=0.5)
    with pytest.raises(ConfigError, match="negative"):
        Habits(good=-0.2, stops_early=1.08)


@pytest.mark.parametrize(
    ("relation", "text", "yes", "no"),
    [
        ("internet domain", ".fr", "fr", "f"),
        ("population", "66,987,244", "66987244", "66,987"),
        ("area", "547,030 square kilometres", "547030 km²", "547"),
        ("calling code", "33", "+33", "-33"),
        ("country", "United Kingdom", "UK", "England"),
        ("capital", "Brasília", "Brasilia", "Brazil"),
        ("time zone", "America/New_York", "America/New York", "New York"),
    ],
)
def test_accepted_variants(relation: str, text: str, yes: str, no: str) -> None:
    variants = accepted(relation, text)
    assert variants[0] == text
    assert yes in variants
    assert no not in variants


def test_codes_of_the_real_world_are_not_accepted_in_the_counterfactual_one() -> None:
    for facts, codes in (("real", True), ("counterfactual", False)):
        tasks = some(source(1, "train", facts=facts, relations=["ISO code"]), 20)
        assert all((len(task.answers) == 2) is codes for task in tasks)
