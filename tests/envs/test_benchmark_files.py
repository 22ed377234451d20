"""Benchmark files in their published layouts: hand-written ones always, real ones where they lie beside the checkout."""

import copy
import csv
import json
import pickle
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from arpo_envs.errors import ConfigError
from arpo_envs.rewards import check
from arpo_envs.rewards.mathematics.equivalence import equivalent
from arpo_envs.rewards.mathematics.judge import settle
from arpo_envs.tasks import TaskSource
from arpo_envs.tasks.benchmarks import BENCHMARKS, BenchmarkTasks, find_benchmark, load_benchmark, read_benchmark
from arpo_envs.tasks.files import FileTasks

REAL = Path(__file__).parents[3] / "shared" / "benchmarks"

GSM8K = [
    {"question": "16 eggs, 3 eaten, 4 baked, $2 each?", "answer": "16 - 3 - 4 = <<16-3-4=9>>9\n9 * 2 = 18\n#### 18", "idx": 0},
    {"question": "How many?", "answer": "Many.\n#### 1,450,000", "idx": 1},
    {"question": "How cold?", "answer": "#### -3", "idx": 2},
]
MATH = [
    {"question": "Find $\\frac{1}{2}+\\frac{1}{4}$.", "answer": "\\frac{3}{4}"},
    {"question": "Where is $(0,3)$ in polar coordinates?", "answer": "\\left( 3, \\frac{\\pi}{2} \\right)"},
    {"question": "Which way?", "answer": "\\text{east}"},
]
MATH_SOLUTIONS = [
    {"problem": "Half of $3$?", "solution": "It is $\\boxed{\\frac{3}{2}}$.", "level": "Level 1", "unique_id": "test/a/1.json"},
    {"problem": "Twice $3$?", "solution": "It is $\\boxed{6}$.", "level": "Level 1", "unique_id": "test/a/2.json"},
    {"problem": "$3$?", "solution": "$3=\\boxed{3}$.", "level": "Level 1", "unique_id": "test/a/3.json"},
]
AIME_TEXT = [
    {"id": 60, "problem": "Aya walks $9$ km.", "solution": "…", "answer": "204", "url": "…", "question": "Aya walks $9$ km."},
    {"id": 61, "problem": "B?", "solution": "…", "answer": "025", "url": "…", "question": "B?"},
    {"id": 62, "problem": "C?", "solution": "…", "answer": "7", "url": "…", "question": "C?"},
]
AIME_NUMBERS = [{"problem": f"Problem {i}", "answer": answer, "id": str(i)} for i, answer in enumerate((70, 588, 16))]
AIME_CAPITALS = [
    {"ID": f"2024-I-{i}", "Problem": "P?", "Answer": answer, "Solution": "…"} for i, answer in enumerate((1, 2, 3))
]
QA = [
    {"question": "Where was the director born?", "answer": ["New York City", "NYC", "Big Apple"]},
    {"question": "Where did the presenter die?", "answer": ["Washington D.C."]},
    {"question": "When?", "answer": ["1999"]},
]
QA_TEXT = [
    {"question": "截止日期是什么时候？", "answer": "2024年10月27日"},
    {"question": "Who?", "answer": "Tara Tiba"},
    {"question": "Which rocket?", "answer": "Titan IIIE"},
]
FLASH_RAG = [{"id": f"test_{i}", "question": "Who?", "golden_answers": ["Ada", "Ada Lovelace"]} for i in range(3)]
MUSIQUE = [{"id": f"2hop__{i}", "question": "Who?", "answer": "Li Ye", "answer_aliases": ["Emperor Li", ""]} for i in range(3)]

LAYOUTS = [
    ("gsm8k", GSM8K, "gsm8k", "number", ("18",)),
    ("math", MATH, "math", "math", ("\\frac{3}{4}",)),
    ("math500", MATH, "math", "math", ("\\frac{3}{4}",)),
    ("math", MATH_SOLUTIONS, "math", "math", ("\\frac{3}{2}",)),
    ("aime24", AIME_TEXT, "aime", "math", ("204",)),
    ("aime25", AIME_NUMBERS, "aime", "math", ("70",)),
    ("aime", AIME_CAPITALS, "aime", "math", ("1",)),
    ("hotpotqa", QA, "qa", "text", ("New York City", "NYC", "Big Apple")),
    ("webwalker", QA_TEXT, "qa", "text", ("2024年10月27日",)),
    ("qa", FLASH_RAG, "qa", "text", ("Ada", "Ada Lovelace")),
    ("musique", MUSIQUE, "qa", "text", ("Li Ye", "Emperor Li")),
]


def written(folder: Path, rows: list) -> Path:
    path = folder / "tasks.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("name", "rows", "kind", "answer_type", "first"), LAYOUTS, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("named", [True, False], ids=["named", "found out"])
def test_layouts(tmp_path, name, rows, kind, answer_type, first, named):
    source = load_benchmark(written(tmp_path, rows), name if named else "auto")
    tasks = list(source.questions())
    assert isinstance(source, TaskSource)
    assert (source.kind, len(source), len(tasks)) == (kind, 3, 3)
    assert tasks[0].answers == first
    assert {task.meta["answer_type"] for task in tasks} == {answer_type}
    assert [source.get(task.id) for task in tasks] == tasks
    for task in tasks:
        assert check(task, task.answers[0]).success
        assert not check(task, "Nairobi").success


@pytest.mark.parametrize(
    ("name", "rows"), [row[:2] for row in LAYOUTS if row[0] in BENCHMARKS], ids=lambda value: str(value)[:20]
)
def test_a_parquet_copy_has_the_same_questions(tmp_path, name, rows):
    """Where a row lacks a column that others have, Parquet holds a null."""
    unnamed = {key: value for key, value in rows[0].items() if key.lower() not in ("id", "unique_id", "idx")}
    rows = [*rows, unnamed | {"note": {"only": ["here"]}}]
    as_lines, as_parquet = written(tmp_path, rows), tmp_path / "copy.parquet"
    columns = dict.fromkeys(key for row in rows for key in row)
    parquet.write_table(pyarrow.table({key: [row.get(key) for row in rows] for key in columns}), as_parquet)
    wanted, found = (list(read_benchmark(find_benchmark(name), path).tasks.questions()) for path in (as_lines, as_parquet))
    assert [(task.id, task.question, task.answers) for task in found] == [
        (task.id, task.question, task.answers) for task in wanted
    ]


@pytest.mark.parametrize("ending", ["JSONL", "Json", "CSV", "PARQUET"])
def test_a_file_is_known_by_its_ending_in_capitals_too(tmp_path, ending):
    row, path = {"question": "How many?", "answer": "#### 3"}, tmp_path / f"copy.{ending}"
    if ending == "PARQUET":
        parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    else:
        content = {"JSONL": json.dumps(row), "Json": json.dumps([row]), "CSV": "question,answer\nHow many?,#### 3\n"}
        path.write_text(content[ending], encoding="utf-8")
    (task,) = read_benchmark(find_benchmark("gsm8k"), path).tasks.questions()
    assert task.answers == ("3",)


def test_a_cell_of_csv_may_be_long_and_the_limit_of_others_stays(tmp_path):
    path, before = tmp_path / "copy.csv", csv.field_size_limit(1000)
    try:
        path.write_text(f"question,answer\n{'so ' * 70_000}?,#### 3\nHow many?,#### 4\n", encoding="utf-8")
        tasks = read_benchmark(find_benchmark("gsm8k"), path).tasks
        assert csv.field_size_limit() == 1000
    finally:
        csv.field_size_limit(before)
    long, short = tasks.questions()
    assert (len(long.question), short.answers) == (210_001, ("4",))


def test_tasks_pickle_whole(tmp_path):
    path = written(tmp_path, GSM8K)
    for tasks in (read_benchmark(find_benchmark("gsm8k"), path).tasks, FileTasks(write_own(tmp_path / "own.jsonl"))):
        twin = pickle.loads(pickle.dumps(tasks))
        assert [*twin.questions()] == [*tasks.questions()]
        assert twin.name == tasks.name
        assert [twin.provenance(task) for task in twin.questions()] == [tasks.provenance(task) for task in tasks.questions()]
        assert twin.draw(np.random.default_rng(1)) == tasks.draw(np.random.default_rng(1))
        assert twin.get(next(twin.questions()).id) == next(tasks.questions())


def write_own(path):
    rows = [{"question": f"{n}?", "answers": [str(n)], "hops": n, "gated": n > 1} for n in range(3)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_a_parquet_files_faults_are_named(tmp_path):
    path = tmp_path / "copy.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{"question": "Who?", "answer": "Ada"}, {"question": "Who?"}]), path)
    with pytest.raises(ConfigError, match=r"copy\.parquet, row 2"):
        read_benchmark(find_benchmark("hotpotqa"), path)
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(ConfigError, match="not a Parquet file"):
        read_benchmark(find_benchmark("hotpotqa"), path)


def test_a_source_is_shared_by_copies_and_draws_every_task(tmp_path):
    source = load_benchmark(written(tmp_path, QA))
    assert copy.deepcopy(source) is source
    rng = np.random.default_rng(0)
    assert {source.draw(rng).id for _ in range(50)} == {"1", "2", "3"}
    assert source.name.startswith("qa(tasks.jsonl, ")
    other = load_benchmark(written(tmp_path, QA[:2]))
    assert other.name != source.name


def test_ids_and_what_else_a_line_says(tmp_path):
    source = load_benchmark(written(tmp_path, GSM8K))
    assert source.get("0").meta["solution"].endswith("9 * 2 = 18")
    assert load_benchmark(written(tmp_path, MATH_SOLUTIONS)).get("test/a/1.json").meta["level"] == "Level 1"
    with pytest.raises(ConfigError, match=r"Unknown task in tasks\.jsonl '7'"):
        source.get("7")


def test_a_file_cannot_name_code_to_run_or_choose_its_checker(tmp_path):
    rows = [{**row, "scorer": "os:system", "answer_type": "text", "tolerance": 1e9} for row in GSM8K]
    meta = load_benchmark(written(tmp_path, rows)).get("0").meta
    assert meta["answer_type"] == "number"
    assert not {"scorer", "tolerance"} & set(meta)


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        ([{"text": "?", "label": 1}], "auto", "line 1: no known layout.*the columns are text, label"),
        ([{"question": "2+2?", "answer": "4000"}, {"question": "2+3?", "answer": "5"}], "auto", 'cannot tell.*kind="math"'),
        ([{"question": "Q", "answer": "1"}], "gsm8k", "line 1: expected an answer that ends in \"#### 18\", got '1'"),
        ([{"question": "Q", "answer": "#### many"}], "gsm8k", 'line 1: expected a number after "####"'),
        ([QA[0], {"question": " ", "answer": "1"}], "qa", "line 2: expected a question"),
        ([QA[0], {"question": "Q", "answer": []}], "qa", "line 2: expected an answer"),
        ([{"question": "Q", "answer": [1.5, None]}], "qa", "line 1: expected an answer"),
        ([{"question": "Q", "answer": True}], "qa", "line 1: expected an answer"),
        ([{"problem": "Q", "solution": "no box"}], "math", "line 1: expected an answer"),
        ([{"id": 1, **QA[0]}, {"id": 1, **QA[1]}], "qa", "line 2: the id '1' occurs twice"),
        ([{"id": 1.5, **QA[0]}], "qa", "line 1: expected an id"),
        (QA, "gsm8", "Unknown benchmark layout 'gsm8'.*Did you mean 'gsm8k'"),
        ([], "auto", "has no lines"),
    ],
)
def test_mistakes_name_the_line_and_what_was_expected(tmp_path, rows, kind, message):
    with pytest.raises(ConfigError, match=message):
        load_benchmark(written(tmp_path, rows), kind)


def test_a_missing_file_is_a_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="Cannot read"):
        load_benchmark(tmp_path / "none.jsonl")


# --- real files ----------------------------------------------------------------------------------------------------

FILES = [
    ("gsm8k", "gsm8k", 1319),
    ("math500", "math", 500),
    ("aime24", "aime", 30),
    ("aime25", "aime", 30),
    ("hotpotqa", "qa", 200),
    ("2wiki", "qa", 200),
    ("musique", "qa", 200),
    ("bamboogle", "qa", 125),
    ("webwalker", "qa", 200),
    ("SimpleQA", "qa", 500),
]


def real(name: str) -> BenchmarkTasks:
    path = REAL / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"no {path.name} beside the checkout")
    return load_benchmark(path)


@pytest.mark.parametrize(("name", "kind", "size"), FILES)
def test_real_layouts_are_found_out(name, kind, size):
    source = real(name)
    assert (source.kind, len(source)) == (kind, size)
    assert load_benchmark(source.path, name.lower()).kind == kind


@pytest.mark.parametrize("name", ["gsm8k", "math500", "aime24", "aime25"])
def test_every_real_answer_equals_itself_and_itself_in_a_box(name):
    for task in real(name).questions():
        answer = task.answers[0]
        for given in (answer, f"\\boxed{{{answer}}}", f" ${answer}$. " if "$" not in answer else answer):
            assert check(task, given).success, given
        assert not check(task, "").success
        assert not check(task, f"{answer}7").success, answer


@pytest.mark.parametrize("name", ["hotpotqa", "2wiki", "musique", "bamboogle", "SimpleQA", "webwalker"])
def test_every_real_text_equals_itself(name):
    for task in real(name).questions():
        assert all(check(task, answer).success for answer in task.answers)


EQUAL = {
    frozenset(pair)
    for pair in [
        ("-2,1", "1,-2"),  # solutions in any order
        ("-2,1", "(-2,1)"),  # a point without its brackets
        (r"2\sqrt{5}", r"2 \sqrt{5}"),
        (r"\frac14", r"\frac{1}{4}"),
        ("10080", r"10,\!080"),
        ("120", r"120^\circ"),  # a degree sign may be missing
        ("30", r"30^\circ"),
        ("36", r"36^\circ"),
        ("90", r"90^\circ"),
        ("15", r"15\mbox{ cm}^2"),  # and a unit
        ("36", r"\$36"),
        ("40", "40_9"),  # and a base
        ("5", "x=5"),
    ]
}
"""All pairs of distinct answers of MATH-500 that are judged equal; each was looked at and is right."""


def judged(one: str, other: str) -> bool:
    settled = settle(one, other)
    return equivalent(one, other) if settled is None else settled


@pytest.mark.parametrize("share", [pytest.param(1, marks=pytest.mark.thorough), 40], ids=["all pairs", "every fortieth pair"])
def test_distinct_answers_of_math_are_not_equal_but_for_a_handful(share):
    answers = sorted({task.answers[0] for task in real("math500").questions()})
    pairs = [(one, other) for i, one in enumerate(answers) for other in answers[:i]]
    chosen = [pair for i, pair in enumerate(pairs) if i % share == 0 or frozenset(pair) in EQUAL]
    assert {frozenset(pair) for pair in chosen if judged(*pair)} == EQUAL
