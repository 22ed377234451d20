"""Every example runs as a person would run it."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SEEN: dict[str, list[str]] = {
    "play_an_env.py": ["5 of 5 right"],
    "fork_an_env.py": ["with Asia/Brunei       reward 1, episode length 2", "turn 1, 1 tool call", "fork level: exact"],
    "rollout_tree.py": [
        "[branch] <search>Germany</search>",
        "[backfill]",
        "6 rollouts; 6 tool calls run, 4 inherited by forks",
    ],
    "hand_written_loop.py": ["step 2: reward"],
}


def run(name: str, *arguments: str, options: tuple[str, ...] = ("-W", "error")) -> str:
    command = [sys.executable, *options, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_every_example_is_run_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*SEEN, "inference.py", "ppo_single_file.py"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n == "hand_written_loop.py" else ()) for n in SEEN])
def test_an_example_runs(name):
    output = run(name)
    for wanted in SEEN[name]:
        assert wanted in output


@pytest.mark.slow
def test_ppo_learns_on_the_vector_environment():
    returns = [float(line.rpartition(" ")[2]) for line in run("ppo_single_file.py").splitlines()]
    assert len(returns) == 6
    assert returns[0] < 0.3
    assert returns[-1] > 0.8


def test_the_tree_needs_no_torch():
    blocked = "import runpy, sys; sys.modules['torch'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", blocked, str(EXAMPLES / "rollout_tree.py")], capture_output=True, text=True, check=True
    )
    assert "[branch]" in done.stdout


@pytest.mark.slow
def test_a_policy_answers_questions(tiny_policy):
    output = run("inference.py", str(tiny_policy))
    assert output.count("the answer is") == 3
    assert "What is" in output
    own = run("inference.py", str(tiny_policy), "What is the capital of the country of Köln?")
    assert "What is the capital of the country of Köln?" in own
    assert "the answer is" not in own


@pytest.mark.slow
def test_the_folder_of_a_run_answers_with_its_policy(tiny_policy, tmp_path):
    (tmp_path / "config.json").write_text('{"algorithm": "arpo"}', encoding="utf-8")
    (tmp_path / "policy").symlink_to(tiny_policy, target_is_directory=True)
    assert "What is the capital" in run("inference.py", str(tmp_path), "What is the capital of the country of Köln?")


@pytest.fixture
def refused(monkeypatch):
    """Returns what runs the example here, and gives what it says as it exits."""

    def run_it(*arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", ["inference.py", *arguments])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(EXAMPLES / "inference.py"), run_name="__main__")
        return end.value.code

    return run_it


def test_a_folder_without_a_model_is_explained(refused, tmp_path):
    assert refused(str(tmp_path / "nope")) == f"{tmp_path / 'nope'} is not a model folder: it has no config.json."


def test_without_a_folder_it_says_how_it_is_used(refused):
    assert "python examples/inference.py runs/" in refused()
