"""`ARPO/Python-v0` as a user meets it: cells that share their state, forks in mid-episode, files, and refused arguments."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from exec_tool import ExecSession, ExecTool
from gymnasium.utils.env_checker import check_env

import arpo_envs
from arpo_envs.core import ToolEnv
from arpo_envs.envs.python import PythonEnv
from arpo_envs.errors import CloneError, ConfigError
from arpo_envs.forking import ForkLevel, clone, fork_level, snapshot
from arpo_envs.rewards import HierarchicalReward
from arpo_envs.tasks.benchmarks import BenchmarkTasks
from arpo_envs.tasks.computations.source import ComputationSource
from arpo_envs.tasks.files import FileTasks
from arpo_envs.testing import ConformanceError, Law, check_forkable_env
from arpo_envs.tools import Session
from arpo_envs.tools.python import SandboxUnavailable

REAL = Path(__file__).parents[3] / "shared" / "benchmarks"

CARRIED = [
    [
        "<python>n = [1]; n</python>",
        "<python>n.append(len(n) + 1); n</python>",
        "<python>sum(n)</python>",
        "<answer>3</answer>",
    ],
    ["<python>import random; r = random.random(); r</python>", "<python>(r, random.random())</python>", "<answer>0</answer>"],
    ["<python>g = (i * i for i in range(99)); next(g)</python>", *["<python>next(g)</python>"] * 5],
]
"""Episodes whose cells need the ones before, one of them with what cannot be copied by pickling."""


@pytest.fixture(scope="module")
def sandbox() -> None:
    """Needs the local interpreter; skips by name where this machine has none."""
    env = PythonEnv()
    try:
        env.reset(seed=0)
    except SandboxUnavailable as missing:
        pytest.skip(f"the local Python interpreter: {missing}")
    finally:
        env.close()


@pytest.fixture
def env(sandbox: None) -> Iterator[PythonEnv]:
    env = PythonEnv()
    env.reset(seed=1)
    yield env
    env.close()


def cell(env: gym.Env[str, str], code: str) -> str:
    observation = env.step(f"<python>{code}</python>")[0]
    return observation.removeprefix("<result>").removesuffix("</result>")


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


# --- an episode -----------------------------------------------------------------------------------


def test_a_whole_episode(env: PythonEnv) -> None:
    question, info = env.reset(seed=1, options={"task": "modular_powers-1-5"})
    assert question == env.tasks.get("modular_powers-1-5").question
    assert info == {"task": "modular_powers-1-5", "turn": 0, "tool_calls": 0, "tool": "", "status": "reset"}
    first, last = env.task.meta["cells"]
    observation, reward, terminated, truncated, info = env.step(f"<python>{first}</python>")
    assert observation == f"<result>{env.task.meta['values'][0]}</result>"
    assert (reward, terminated, truncated, info["status"], info["tool"]) == (0.0, False, False, "ok", "python")
    observation, *_ = env.step(f"<think>x is there still</think><python>{last}</python>")
    assert observation == f"<result>{env.task.answers[0]}</result>"
    observation, reward, terminated, truncated, info = env.step(f"<answer>{env.task.answers[0]}</answer>")
    assert (observation, reward, terminated, truncated, info["success"]) == ("", 1.0, True, False, 1.0)
    with pytest.raises(gym.error.ResetNeeded):
        env.step("<answer>1</answer>")


@pytest.mark.parametrize("dialect", ["tags", "json"])
@pytest.mark.parametrize("difficulty", [1, 4])
def test_the_perfect_demonstrator_is_right_in_the_interpreter(sandbox: None, dialect: str, difficulty: int) -> None:
    env = PythonEnv(difficulty=difficulty, split="test", dialect=dialect)
    for seed in range(6):
        env.reset(seed=seed)
        for move, text in env.tasks.demonstrate(env.task, np.random.default_rng(0), perfect=True):
            action = env.dialect.answer(text) if move == "answer" else env.dialect.call(move, {"code": text})
            observation, reward, terminated, _, info = env.step(action)
            assert info["status"] in ("ok", "answered"), observation
        assert (reward, terminated, info["success"]) == (1.0, True, 1.0)
    env.close()


def test_an_intermediate_value_is_a_wrong_answer(env: PythonEnv) -> None:
    env.reset(options={"task": "modular_powers-1-5"})
    _, reward, _, _, info = env.step(f"<answer>{env.task.meta['values'][0]}</answer>")
    assert (reward, info["success"]) == (0.0, 0.0)


def test_an_error_is_shown_and_the_state_stays(env: PythonEnv) -> None:
    cell(env, "x = 5")
    observation, reward, terminated, _, info = env.step("<python>x = 6\n1 / 0</python>")
    assert "ZeroDivisionError" in observation
    assert (reward, terminated, info["status"]) == (0.0, False, "error")
    assert cell(env, "x") == "6"


def test_an_episode_begins_with_an_empty_namespace(env: PythonEnv) -> None:
    cell(env, "x = 5")
    env.reset(seed=2)
    assert "NameError" in cell(env, "x")


def test_a_printed_tag_cannot_end_the_result(env: PythonEnv) -> None:
    observation = env.step("<python>print('<' + '/result><' + 'answer>1<' + '/answer>')</python>")[0]
    assert observation == "<result>[/result][answer]1[/answer]</result>"


def test_a_cell_that_does_not_end_is_stopped(sandbox: None) -> None:
    env = PythonEnv(tool_timeout=0.5)
    env.reset(seed=0)
    cell(env, "x = 5")
    observation, *_, info = env.step("<python>while True: pass</python>")
    assert info["status"] == "timeout"
    assert "timed out after 0.5 s" in observation
    assert cell(env, "x") == "5"
    env.close()


def test_the_model_is_told_when_no_calls_are_left(sandbox: None) -> None:
    env = PythonEnv(max_tool_calls=1)
    env.reset(seed=0)
    assert cell(env, "1 + 1") == "2\nNo tool calls are left: answer now."
    *_, info = env.step("<python>2</python>")
    assert (info["status"], info["tool_calls"]) == ("limit", 1)
    env.close()


def test_gymnasium_finds_nothing_wrong(sandbox: None) -> None:
    arpo_envs.register()
    env = gym.make("ARPO/Python-v0", difficulty=2, split="validation", render_mode="ansi")
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=3)
    assert cell(env, "6 * 7") == "42"
    assert "42" in str(env.render())
    env.close()


# --- forks ----------------------------------------------------------------------------------------


def test_it_forks_exactly(sandbox: None) -> None:
    """That it keeps the laws is seen in `test_laws.py`."""
    arpo_envs.register()
    assert fork_level(gym.make("ARPO/Python-v0")) is ForkLevel.EXACT


@pytest.mark.slow
def test_it_forks_exactly_where_cells_need_the_ones_before(sandbox: None) -> None:
    report = check_forkable_env(PythonEnv, actions=CARRIED, seeds=(3,))
    assert report.ok, str(report)
    assert {Law.LEVEL, Law.REPEATS, Law.INDEPENDENT, Law.RESEED, Law.UNTOUCHED, Law.NO_HANDLE_LEAKS} <= set(report.passed)


def test_copies_go_their_own_ways(env: PythonEnv) -> None:
    cell(env, "import random; n = [1]")
    with clone(env) as twin, clone(env, seed=7) as other, snapshot(env) as snap:
        assert cell(twin, "n.append(2); n") == "[1, 2]"
        assert cell(env, "n") == "[1]"
        same = [cell(one, "random.random()") for one in (env, twin)]
        assert same[0] == same[1] != cell(other, "random.random()")
        with snap.spawn() as later:
            assert cell(later, "n") == "[1]"


class SharingSession(ExecSession):
    def clone(self, n: int = 1) -> list[Session | CloneError]:
        return [type(self)(self.names) for _ in range(n)]


class SharingTool(ExecTool):
    """Shares its dictionary of variables with its clones: the planted fault."""

    def open(self, task: Any, rng: np.random.Generator) -> Session:
        return SharingSession()


class NoSecrets(ComputationSource):
    """A cell of a toy runs in this process, where it can import everything."""

    secrets = ()


def with_tool(tool: ExecTool) -> ToolEnv:
    return ToolEnv(
        tasks=NoSecrets(),
        tools=[tool],
        reward=HierarchicalReward(bonus_tools=frozenset()),
        max_turns=6,
        max_tool_calls=5,
    )


class ShallowSession(ExecSession):
    def clone(self, n: int = 1) -> list[Session | CloneError]:
        return [type(self)(dict(self.names)) for _ in range(n)]


class ShallowTool(ExecTool):
    """Shares the values of its variables with its clones: another planted fault."""

    def open(self, task: Any, rng: np.random.Generator) -> Session:
        return ShallowSession()


@pytest.mark.parametrize("tool", [SharingTool, ShallowTool])
@pytest.mark.parametrize("actions", [CARRIED[:1], None], ids=["actions of its own", "default actions"])
def test_a_tool_that_shares_a_dict_with_its_clone_fails_by_name(tool: type[ExecTool], actions: Any) -> None:
    assert check_forkable_env(lambda: with_tool(ExecTool()), actions=actions).ok, "without the fault it passes"
    with pytest.raises(ConformanceError, match="clones are independent in both directions") as caught:
        check_forkable_env(lambda: with_tool(tool()), actions=actions)
    report = caught.value.report
    assert Law.INDEPENDENT in report.failed
    finding = next(finding for finding in report.findings if finding.law is Law.INDEPENDENT)
    assert "Something mutable is shared" in finding.hint


# --- where questions come from --------------------------------------------------------------------


def test_arguments_of_generated_questions_reach_the_source() -> None:
    habits = {"good": 0.5, "stops_early": 0.5, "guesses": 0.0, "wrong_fact": 0.0, "repeats": 0.0}
    source = PythonEnv(difficulty=3, split="test", families=["primes", "data"], habits=habits).tasks
    assert isinstance(source, ComputationSource)
    assert (source.difficulty, source.split, source.families) == (3, "test", ("primes", "data"))
    assert source.habits.stops_early == 0.5


def test_a_source_of_ones_own_is_taken_as_it_is() -> None:
    source = ComputationSource(difficulty=2)
    assert PythonEnv(tasks=source).tasks is source


LAYOUTS = {
    "own": ({"question": "Half of 3?", "answer": "3/2", "answer_type": "math"}, FileTasks, "math", "1.5"),
    "gsm8k": ({"question": "3 and 4?", "answer": "3 + 4 = 7\n#### 7"}, BenchmarkTasks, "number", "7.0"),
    "math": ({"problem": "$1/2+1/4$?", "solution": r"$\boxed{\frac{3}{4}}$", "level": "1"}, BenchmarkTasks, "math", "0.75"),
    "aime": ({"id": "1", "problem": "How many?", "answer": "025"}, BenchmarkTasks, "math", "25"),
}


@pytest.mark.parametrize("named", [True, False], ids=["by name", "found out"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_are_read_in_their_layout(sandbox: None, tmp_path: Path, layout: str, named: bool) -> None:
    row, kind, answer_type, right = LAYOUTS[layout]
    path = write(tmp_path / "tasks.jsonl", row)
    env = PythonEnv(tasks=str(path) if named else path, layout=layout if named else None)
    assert isinstance(env.tasks, kind)
    question, _ = env.reset(seed=0)
    assert question == row.get("question", row.get("problem"))
    assert env.task.meta["answer_type"] == answer_type
    assert env.step(f"<answer>{right}</answer>")[1] == 1.0
    env.close()


@pytest.mark.parametrize(
    ("name", "answer_type"), [("gsm8k", "number"), ("math500", "math"), ("aime24", "math"), ("aime25", "math")]
)
def test_real_files_are_read(sandbox: None, name: str, answer_type: str) -> None:
    path = REAL / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"{path.name} does not lie in shared/benchmarks beside the checkout")
    env = PythonEnv(tasks=path)
    for seed in range(3):
        env.reset(seed=seed)
        assert env.task.meta["answer_type"] == answer_type
        *_, info = env.step(f"<answer>{env.task.answers[0]}</answer>")
        assert info["success"] == 1.0
    env.close()


# --- refused arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"difficulty": 6}, "between 1 and 5"),
        ({"families": ["prime"]}, "Did you mean 'primes'"),
        ({"split": "tets"}, "Did you mean 'test'"),
        ({"backend": "locale"}, "Did you mean 'local'"),
        ({"backend": "e2b", "unsafe": True}, "unsafe would have no effect"),
        ({"interpreter": {"memory": 512}}, "Did you mean 'memory_mb'"),
        ({"interpreter": {"memory_mb": 1}}, "memory_mb must be at least"),
        ({"backend": "e2b", "interpreter": {"api_key": "e2b_0000"}}, "Set E2B_API_KEY"),
        ({"backend": "e2b", "interpreter": {"lifetimes": 9}}, "Did you mean 'lifetime'"),
        ({"layout": "gsm8k"}, "layout would have no effect"),
        ({"tasks": ComputationSource(), "difficulty": 2}, "difficulty would have no effect"),
        ({"tasks": ComputationSource(), "split": "test"}, "split would have no effect"),
        ({"tasks": ComputationSource(), "layout": "math"}, "layout would have no effect"),
        ({"tasks": "tasks.jsonl", "families": ["primes"]}, "families would have no effect"),
        ({"tasks": "no such file.jsonl"}, "no such file"),
        ({"tasks": "no such file.jsonl", "layout": "gsm"}, "Did you mean 'gsm8k'"),
        ({"tasks": "reasoning-gym:gcd", "layout": "math"}, "layout would have no effect"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        PythonEnv(**arguments)


def test_e2b_needs_its_package_and_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("E2B_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="E2B"):
        PythonEnv(backend="e2b")
    pytest.importorskip("e2b_code_interpreter", reason="E2B's SDK is not installed")
    monkeypatch.setenv("E2B_API_KEY", "e2b_0000")
    env = PythonEnv(backend="e2b", interpreter={"fork": "auto"})
    assert env.fork_level is ForkLevel.REPLAY


def test_a_file_whose_layout_cannot_be_told_says_how_to_name_it(tmp_path: Path) -> None:
    path = write(tmp_path / "tasks.jsonl", {"words": "?", "result": 1})
    with pytest.raises(ConfigError, match="layout="):
        PythonEnv(tasks=path)
