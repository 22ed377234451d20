"""`arpo eval --benchmark`: what is asked and where, and a policy that knows the answers, in the library's own loop."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from algorithms.cli import main
from algorithms.cli.asked import Asked, asked
from algorithms.cli.environments import env_maker
from algorithms.cli.eval import EvalConfig
from algorithms.evaluation import Evaluation, evaluate
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer
from algorithms.rollout import Limits
from arpo_envs import ConfigError
from arpo_envs.tasks import Task
from arpo_envs.tasks.benchmarks import BENCHMARKS

REAL = Path(__file__).parents[3] / "shared" / "benchmarks"
FILES = [name for name in BENCHMARKS if name not in ("math", "gaia", "hle", "xbench")]
ROWS = [
    {"question": "16 eggs, 7 eaten?", "answer": "16 - 7 = 9\n#### 9"},
    {"question": "Five and six?", "answer": "#### 11"},
    {"question": "How many?", "answer": "many"},
]


@pytest.fixture
def school(tmp_path: Path) -> Path:
    path = tmp_path / "school.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def config_of(tmp_path: Path, **options: object) -> EvalConfig:
    return EvalConfig(policy=str(tmp_path), **options)  # type: ignore[arg-type]


def test_the_benchmark_chooses_the_environment_unless_one_is_named(tiny_policy: Path) -> None:
    own = EvalConfig(policy=str(tiny_policy), benchmark="GSM8K")
    assert own.resolved()[1:] == ("ARPO/Python-v0", ())
    named = EvalConfig(policy=str(tiny_policy), benchmark="gsm8k", env="ARPO/DeepSearch-v0", args=("view_tokens=90",))
    assert named.resolved()[1:] == ("ARPO/DeepSearch-v0", ("view_tokens=90",))


def test_every_question_is_asked_once_in_order_or_the_first_ones(school: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path, benchmark="gsm8k", data=school, skip_malformed=True)
    found = asked(config, "ARPO/Python-v0", ())
    assert [start.options for start in found.starts] == [{"task": "1"}, {"task": "2"}]
    assert len({start.seed for start in found.starts}) == 2
    assert found.record["malformed"] == 1
    assert "line 3: expected an answer that ends" in found.malformed[0]
    some = asked(config_of(tmp_path, benchmark="gsm8k", data=school, skip_malformed=True, questions=1), "ARPO/Python-v0", ())
    assert list(some.starts) == list(found.starts)[:1]


def test_without_a_benchmark_nothing_changes(tmp_path: Path) -> None:
    found = asked(config_of(tmp_path), "ARPO/Search-v0", ("split=test",))
    assert (len(found.starts), found.options, found.record) == (300, {"split": "test"}, {})


@pytest.mark.parametrize(
    ("options", "env", "words", "message"),
    [
        ({"benchmark": "gsm8k"}, "ARPO/Python-v0", (), "1 malformed row.*\n.*line 3"),
        ({"benchmark": "gsm8k"}, "ARPO/SearchMini-v0,ARPO/Python-v0", (), "takes no tasks.*Try --env ARPO/Python-v0"),
        ({"benchmark": "gsm8k"}, "ARPO/Python-v0", ("tasks=x.jsonl",), "--benchmark chooses the tasks"),
        ({"benchmark": "gsm9k"}, "ARPO/Python-v0", (), "Unknown benchmark 'gsm9k'.*Did you mean 'gsm8k'"),
        ({}, "ARPO/Python-v0", (), "--data and --skip-malformed need --benchmark"),
    ],
)
def test_mistakes_stop_before_the_start(
    school: Path, tmp_path: Path, options: dict[str, str], env: str, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        asked(config_of(tmp_path, data=school, **options), env, words)


def test_the_command_reports_what_it_left_out(tiny_policy: Path, school: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "result.json"
    words = ["eval", "--policy", str(tiny_policy), "--benchmark", "gsm8k", "--data", str(school), "--json", str(file)]
    sizes = ["--context-length", "256", "--action-tokens", "8"]
    assert main([*words, *sizes]) == 2
    assert "line 3" in " ".join(capsys.readouterr().err.split())
    assert main([*words, *sizes, "--skip-malformed"]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert (record["benchmark"], record["env"], record["questions"], record["malformed"]) == ("gsm8k", "ARPO/Python-v0", 2, 1)
    assert "Left out:" in capsys.readouterr().out


# --- real files, end to end ------------------------------------------------------------------------------------------


def found_in(name: str, tmp_path: Path, questions: int | None) -> Asked:
    path = REAL / f"{'SimpleQA' if name == 'simpleqa' else name}.jsonl"
    if not path.exists():
        pytest.skip(f"no {path.name} beside the checkout")
    return asked(config_of(tmp_path, benchmark=name, data=path, questions=questions), BENCHMARKS[name].env, ())


def answered(name: str, found: Asked, answer: Callable[[Task], str]) -> Evaluation:
    """Evaluates a policy that looks a question up in the file."""
    by_question = {task.question: task for task in found.options["tasks"].questions()}

    def script(before: str, seed: int) -> str:
        return f"<answer>{answer(by_question[before.removesuffix(chr(10))])}</answer>"

    make_env = env_maker(BENCHMARKS[name].env, dict(found.options))
    limits = Limits(action_tokens=4000)
    return asyncio.run(evaluate(make_env, found.starts, ScriptedPolicy(script), ScriptedRenderer(), seed=1, limits=limits))


@pytest.mark.parametrize("name", ["gsm8k", "musique", "webwalker"])
def test_who_knows_the_answers_is_right_on_some(name: str, tmp_path: Path) -> None:
    found = found_in(name, tmp_path, 4)
    assert answered(name, found, lambda task: task.answers[0]).success == 1.0
    assert answered(name, found, lambda task: "Nairobi, in 1234.5 of them").success == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_who_knows_the_answers_is_right_on_every_row(name: str, tmp_path: Path) -> None:
    found = found_in(name, tmp_path, None)
    result = answered(name, found, lambda task: task.answers[-1])
    ends = [(tree.task, tree.nodes[leaf]) for tree in result.trees for leaf in tree.leaves()]
    assert len(ends) == len(found.starts) == len(found.options["tasks"])
    assert [task for task, end in ends if not end.success] == []
