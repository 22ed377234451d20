"""Benchmarks by name: what is known of each, published forms, malformed rows, local copies and the hub's library."""

import base64
import csv
import json
from dataclasses import FrozenInstanceError, replace
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arpo_envs.envs import named
from arpo_envs.errors import ConfigError
from arpo_envs.rewards import check
from arpo_envs.rewards.checking import CHECKERS
from arpo_envs.tasks.benchmarks import BENCHMARKS, Hub, find_benchmark, read_benchmark
from arpo_envs.tasks.benchmarks.decoding import decrypted

REAL = Path(__file__).parents[3] / "shared" / "benchmarks"
SIZES = {
    "aime24": 30,
    "aime25": 30,
    "math500": 500,
    "gsm8k": 1319,
    "hotpotqa": 200,
    "2wiki": 200,
    "musique": 200,
    "bamboogle": 125,
    "webwalker": 200,
    "simpleqa": 500,
}
PAPER = {*SIZES, "math", "gaia", "hle", "xbench"}


def encrypted(text: str, canary: str) -> str:
    return base64.b64encode(bytes(a ^ b for a, b in zip(text.encode(), cycle(canary.encode()), strict=False))).decode()


def written(folder: Path, rows: list, name: str = "tasks.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_benchmark_of_the_paper_is_there_and_simpleqa():
    assert set(BENCHMARKS) == PAPER
    assert {name for name, one in BENCHMARKS.items() if one.gated} == {"gaia", "hle", "xbench"}


def test_the_page_names_every_benchmark_without_a_revision():
    unknown = [f"`{name}`" for name, one in BENCHMARKS.items() if one.hub.revision is None]
    page = " ".join((Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8").split())
    assert f"For {', '.join(unknown[:-1])} and {unknown[-1]} no revision is known to us" in page


@pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=list(BENCHMARKS))
def test_every_record_is_whole_and_frozen(benchmark):
    assert all((benchmark.title, benchmark.licence, benchmark.hub.id, benchmark.hub.split))
    assert benchmark.answer_type in CHECKERS
    assert benchmark.gated == bool(benchmark.access)
    assert benchmark.hub.revision is None or len(benchmark.hub.revision) == 40
    assert "tasks" in named.arguments_of(benchmark.env)
    with pytest.raises(FrozenInstanceError):
        benchmark.name = "other"


@pytest.mark.parametrize("name", ["gsm8k", "hotpotqa", "gaia"], ids=str)
def test_the_environment_has_the_tools_that_a_benchmark_names(name, tmp_path):
    benchmark = find_benchmark(name)
    path = written(tmp_path, [{"question": "How many?", "answer": "#### 5" if name == "gsm8k" else "five"}])
    env = named.make_env(benchmark.env, {"tasks": read_benchmark(benchmark, path).tasks})
    try:
        assert tuple(spec.name for spec in env.unwrapped.tool_specs) == benchmark.tools
    finally:
        env.close()


def test_an_unknown_name_is_told_the_closest():
    with pytest.raises(ConfigError, match=r"Unknown benchmark 'hotpot'.*Did you mean 'hotpotqa'"):
        find_benchmark("hotpot")


# --- published forms -------------------------------------------------------------------------------------------------


UNICODE = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)


@settings(max_examples=25)
@given(text=UNICODE, canary=UNICODE)
def test_decryption_undoes_encryption(text, canary):
    assert decrypted(encrypted(text, canary), canary, "prompt") == text


def test_xbench_in_its_published_form(tmp_path):
    path = tmp_path / "DeepSearch.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, ["id", "prompt", "answer", "reference_steps", "canary"])
        table.writeheader()
        for i, (question, answer) in enumerate([("哪一年？", "1998"), ("Who,\nthen?", "Ada")]):
            key = f"canary-{i}"
            table.writerow(
                {
                    "id": f"x{i}",
                    "prompt": encrypted(question, key),
                    "answer": encrypted(answer, key),
                    "reference_steps": "",
                    "canary": key,
                }
            )
    tasks = list(read_benchmark(find_benchmark("xbench"), path).tasks.questions())
    assert [(task.id, task.question, task.answers) for task in tasks] == [
        ("x0", "哪一年？", ("1998",)),
        ("x1", "Who,\nthen?", ("Ada",)),
    ]
    assert "canary" not in tasks[0].meta


def test_gaia_in_its_published_form(tmp_path):
    usual = {"task_id": "c61d", "Question": "How many?", "Level": "1", "Final answer": "17", "file_name": ""}
    rows = [usual, {**usual, "task_id": "b", "file_name": "b.xlsx"}, {**usual, "task_id": "c", "Final answer": "?"}]
    found = read_benchmark(find_benchmark("gaia"), written(tmp_path, rows), skip_malformed=True)
    (task,) = found.tasks.questions()
    assert (task.id, task.question, task.answers, task.meta["level"]) == ("c61d", "How many?", ("17",), "1")
    assert "line 2: the question is about an attached file" in found.malformed[0]
    assert "line 3: the answer is hidden" in found.malformed[1]


def test_hle_in_its_published_form(tmp_path):
    usual = {
        "id": "6",
        "question": "Which?",
        "image": "",
        "answer": "B",
        "answer_type": "multipleChoice",
        "canary": "BENCHMARK",
    }
    rows = [usual, {**usual, "id": "7", "image": "data:image/png;base64,AA=="}]
    found = read_benchmark(find_benchmark("hle"), written(tmp_path, rows), skip_malformed=True)
    (task,) = found.tasks.questions()
    assert check(task, "B").success
    assert not check(task, "C").success
    assert not {"canary", "image"} & set(task.meta)
    assert len(found.malformed) == 1
    assert "line 2: the question is about an image" in found.malformed[0]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "AA==", "answer": "AA=="}, "a canary, which is the key to the row, is missing"),
        ({"prompt": "not base64", "answer": "AA==", "canary": "k"}, "'prompt' is not encrypted with this canary"),
        ({"prompt": encrypted("Who?", "k"), "answer": 5, "canary": "k"}, "'answer' is not text"),
    ],
)
def test_a_row_that_cannot_be_decrypted_is_malformed(tmp_path, row, reason):
    with pytest.raises(ConfigError, match=f"line 1: {reason}"):
        read_benchmark(find_benchmark("xbench"), written(tmp_path, [row]))


# --- malformed rows, and formats -------------------------------------------------------------------------------------

MIXED = b"""{"question": "Who?", "answer": "Ada", "id": "a"}
{"question": "Who?"
\xff\xfe

[1, 2]
{"question": "Who?", "answer": []}
{"question": "Who?", "answer": "Bea", "id": "a"}
{"question": "When?", "answer": 1999}
"""


def test_malformed_rows_are_reported_with_file_line_and_reason(tmp_path):
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(MIXED)
    with pytest.raises(ConfigError, match=r"mixed\.jsonl: 5 malformed rows\.(.|\n)*--skip-malformed"):
        read_benchmark(find_benchmark("bamboogle"), path)
    found = read_benchmark(find_benchmark("bamboogle"), path, skip_malformed=True)
    assert [(task.id, task.answers) for task in found.tasks.questions()] == [("a", ("Ada",)), ("8", ("1999",))]
    reasons = ["not JSON", "not UTF-8", "a JSON list", "expected an answer", "the id 'a' occurs twice"]
    for told, line, reason in zip(found.malformed, (2, 3, 5, 6, 7), reasons, strict=True):
        assert told.startswith(f"{path}, line {line}: ")
        assert reason in told


def test_a_file_of_nothing_but_malformed_rows_is_refused_even_so(tmp_path):
    with pytest.raises(ConfigError, match="line 1: expected a question"):
        read_benchmark(find_benchmark("2wiki"), written(tmp_path, [{"answer": "x"}]), skip_malformed=True)
    with pytest.raises(ConfigError, match="has no rows"):
        read_benchmark(find_benchmark("2wiki"), written(tmp_path, []))


def test_a_list_and_a_table_are_read_too(tmp_path):
    (tmp_path / "dev.json").write_text('[{"_id": "5a", "question": "Who?", "answer": "Ada"}]', encoding="utf-8")
    (tmp_path / "test.csv").write_text('metadata,problem,answer\n{},"Who, then?",Ada\nx,y\n', encoding="utf-8")
    (task,) = read_benchmark(find_benchmark("hotpotqa"), tmp_path / "dev.json").tasks.questions()
    assert (task.id, task.question) == ("5a", "Who?")
    found = read_benchmark(find_benchmark("simpleqa"), tmp_path / "test.csv", skip_malformed=True)
    assert [task.question for task in found.tasks.questions()] == ["Who, then?"]
    assert "line 3: expected 3 cells" in found.malformed[0]
    (tmp_path / "one.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"a JSON dict\. Expected a list"):
        read_benchmark(find_benchmark("hotpotqa"), tmp_path / "one.json")
    with pytest.raises(ConfigError, match=r"expected a file ending in \.jsonl, \.json, \.csv"):
        read_benchmark(find_benchmark("hotpotqa"), tmp_path / "dev.txt")
    with pytest.raises(ConfigError, match="Cannot read"):
        read_benchmark(find_benchmark("hotpotqa"), tmp_path / "none.jsonl")


# --- the hub's library, on a folder; real files ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_data_set_is_loaded_by_the_hubs_library(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    written(folder, [{"question": "Who?", "answer": "Ada"}, {"question": "", "answer": "Bea"}], "test.jsonl")
    benchmark = replace(find_benchmark("bamboogle"), hub=Hub(str(folder), "test"))
    with pytest.raises(ConfigError, match="row 2: expected a question"):
        read_benchmark(benchmark)
    found = read_benchmark(benchmark, skip_malformed=True)
    assert [task.answers for task in found.tasks.questions()] == [("Ada",)]
    missing = replace(find_benchmark("gaia"), hub=Hub(str(tmp_path / "none"), "validation"))
    with pytest.raises(ConfigError, match=r"cannot be loaded from the hub.*accept its terms.*--data FILE"):
        read_benchmark(missing)


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_every_row_of_the_real_files_is_read(name, size):
    path = REAL / f"{'SimpleQA' if name == 'simpleqa' else name}.jsonl"
    if not path.exists():
        pytest.skip(f"no {path.name} beside the checkout")
    found = read_benchmark(find_benchmark(name), path)
    assert (len(found.tasks), found.malformed) == (size, ())
    assert {task.meta["answer_type"] for task in found.tasks.questions()} == {find_benchmark(name).answer_type}
