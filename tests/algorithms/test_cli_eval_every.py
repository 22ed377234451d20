"""`arpo train --eval-every`: what is measured on the way, the best policy, and that training does not notice."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import stored_state
from page_toys import Document
from test_checkpoint import Folder
from test_cli_train import arguments, logged, said, same, summary, weights

from algorithms.checkpoint import Best, best, latest, save_best
from algorithms.cli import main, train
from algorithms.cli.evaluations import Evaluations, as_metrics
from algorithms.evaluation import Evaluation
from algorithms.rollout import RolloutError
from algorithms.trainer import Trainer

pytestmark = pytest.mark.usefixtures("wide_terminal")
SCORES = {0: 0.25, 2: 0.5, 3: 0.5}
"""Success that an evaluation says it found, by the number of steps that were taken; those after the first one fail."""
STEPS = 3


def scored(patched: pytest.MonkeyPatch) -> None:
    """Makes evaluations do all their work, and then say they found other successes, or fail."""
    usual = train.evaluate

    async def evaluate(make_env: Any, starts: Any, policy: Any, *rest: Any, **options: Any) -> Evaluation:
        found = await usual(make_env, starts, policy, *rest, **options)
        if policy.version not in SCORES:
            raise RolloutError("the judge is asleep")
        return replace(found, success=SCORES[policy.version])

    patched.setattr(train, "evaluate", evaluate)


def without(held_out: str, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if not name.startswith(held_out)} for line in lines]


@pytest.fixture(scope="module")
def evaluated(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Returns the folder of a run that was evaluated before each step, and what it said."""
    run, heard = tmp_path_factory.mktemp("evaluated") / "run", io.StringIO()
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(heard):
        patched.setenv("COLUMNS", "500")
        scored(patched)
        assert main(arguments(tiny_policy, run, "--eval-every", "1", steps=STEPS)) == 0
    return run, heard.getvalue()


def assert_trained_alike(left: Path, right: Path) -> None:
    assert (left / "trees.jsonl.zst").read_bytes() == (right / "trees.jsonl.zst").read_bytes()
    assert without("held_out/", logged(left)) == without("held_out/", logged(right))
    assert same(weights(left), weights(right))
    assert same(*(stored_state(latest(run).learner) for run in (left, right)))


def test_training_is_bit_for_bit_the_same_with_evaluations_and_without(evaluated, finished):
    run, _ = evaluated
    assert_trained_alike(finished, run)
    assert without("held_out/", logged(finished)) == logged(finished), "without the option there are none"
    assert not (finished / "best").exists()


def test_results_stand_in_the_metrics_of_the_step_whose_rollouts_are_those_of_the_same_policy(evaluated):
    run, heard = evaluated
    lines = logged(run)
    assert [line.get("held_out/sampled") for line in lines] == [0.25, None, 0.5]
    before = json.loads((run / "before.json").read_text(encoding="utf-8"))
    assert [lines[0][f"held_out/greedy_{end}"] for end in ("low", "high")] == before["greedy_interval"]
    assert lines[0]["held_out/greedy_tool_calls"] == before["greedy_tool_calls"]
    assert "step 2: held-out success 0.500 sampled, 0.500 greedy" in heard


def test_an_evaluation_that_fails_is_told_and_ends_nothing(evaluated):
    run, heard = evaluated
    assert "not evaluated after step 1: RolloutError: the judge is asleep" in heard
    assert not any(name.startswith("held_out/") for name in logged(run)[1])


def test_a_measure_may_be_called_an_interval():
    record = {"greedy_env/retry_interval": 2.0, "greedy_env/retry_interval_interval": [1.0, 3.0]}
    assert as_metrics(record | {"greedy_interval/A": [0.0, 1.0]}) == {
        "held_out/greedy_env/retry_interval": 2.0,
        "held_out/greedy_env/retry_interval_low": 1.0,
        "held_out/greedy_env/retry_interval_high": 3.0,
        "held_out/greedy_low/A": 0.0,
        "held_out/greedy_high/A": 1.0,
    }


def test_the_best_policy_is_kept_the_earlier_one_of_equals(evaluated, finished):
    run, heard = evaluated
    assert best(run) == Best(2, 0.5), "as good as the last one, and earlier"
    assert json.loads((run / "best" / "best.json").read_text(encoding="utf-8")) == {"step": 2, "success": 0.5}
    kept, written = run / "best", finished / "checkpoints" / "step-000002" / "policy"
    assert {path.name for path in kept.iterdir()} == {"best.json", *(path.name for path in written.iterdir())}
    assert (kept / "model.safetensors").read_bytes() == (written / "model.safetensors").read_bytes()
    assert [path.name for path in run.glob("checkpoints/*best*")] == ["best-000002"]
    assert {"best_step": 2, "success_best_sampled": 0.5}.items() <= summary(run).items()
    assert "best, sampled (step 2)" in heard
    assert "policy/, best/" in heard


def test_the_best_policy_is_measured_where_its_run_was(evaluated, tmp_path):
    run, _ = evaluated
    file = tmp_path / "eval.json"
    assert main(["eval", "--policy", str(run / "best"), "--questions", "2", "--json", str(file)]) == 0
    assert json.loads(file.read_text(encoding="utf-8"))["args"] == "cities_per_country=4 split=test"


def test_the_page_of_the_run_has_the_curve(evaluated, tmp_path):
    assert main(["report", str(evaluated[0]), "--output", str(tmp_path / "report.html")]) == 0
    metrics = Document((tmp_path / "report.html").read_text(encoding="utf-8")).data("index")["metrics"]
    assert [line["held_out/sampled"] for line in metrics if "held_out/sampled" in line] == [0.25, 0.5]


def test_a_negative_number_is_refused(tmp_path, capsys):
    assert main(["train", "--eval-every", "-1", "--output", str(tmp_path / "run")]) == 2
    assert "eval_every must not be negative, got -1" in said(capsys)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=5))
@settings(max_examples=10, deadline=None)
def test_the_best_is_the_first_of_the_highest_also_if_a_run_takes_steps_again(tmp_path_factory, scores):
    run = tmp_path_factory.mktemp("run")

    def keep(found: Best) -> None:
        save_best(run, found, Folder("model.txt", f"weights {found.step}"), Folder("tokenizer.txt"))

    for step, score in [*enumerate(scores), *enumerate(scores)]:
        Evaluations(1, run, {}, None, keep, None).take(step, {"sampled": score})  # knows nothing, as after a kill
    first = scores.index(max(scores))
    assert best(run) == Best(first, scores[first])
    assert (run / "best" / "model.txt").read_text(encoding="utf-8") == f"weights {first}"


# --- the same again, also after a kill -----------------------------------------------------------------------


def killed(words: list[str]) -> None:
    """Runs a command that is killed after the evaluation that precedes the third step."""
    learn = Trainer.learn

    async def dying(self: Trainer, step: int) -> Any:
        if step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return await learn(self, step)

    with pytest.MonkeyPatch.context() as patched:
        scored(patched)
        patched.setattr(Trainer, "learn", dying)
        main(words)


@pytest.mark.slow
@pytest.mark.parametrize("every", ["1", pytest.param("2", marks=pytest.mark.thorough), "9"])
def test_a_run_killed_between_an_evaluation_and_the_next_step_goes_on_exactly(
    every, evaluated, tiny_policy, tmp_path, monkeypatch
):
    whole, run = evaluated[0], tmp_path / "run"
    words = arguments(tiny_policy, run, "--eval-every", "1", "--checkpoint-every", every, steps=STEPS)
    code = "import sys; from test_cli_eval_every import killed; killed(sys.argv[1:])"
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, env=paths)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert best(run) == Best(2, 0.5), "it was killed after the evaluation"
    assert len(logged(run)) == 2, "and before the step"
    scored(monkeypatch)
    assert main(["train", "--resume", str(run)]) == 0
    assert_same_run(whole, run)


@pytest.mark.slow
def test_a_signal_during_an_evaluation_saves_the_steps_before_it(evaluated, tiny_policy, tmp_path, monkeypatch, capsys):
    whole, run = evaluated[0], tmp_path / "run"
    with monkeypatch.context() as patched:
        scored(patched)
        usual = train.evaluate

        async def stopped(make_env: Any, starts: Any, policy: Any, *rest: Any, **options: Any) -> Evaluation:
            if policy.version == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return await usual(make_env, starts, policy, *rest, **options)

        patched.setattr(train, "evaluate", stopped)
        words = arguments(tiny_policy, run, "--eval-every", "1", "--checkpoint-every", "9", steps=STEPS)
        assert main(words) == 128 + signal.SIGTERM
    assert f"Saved. Continue with: arpo train --resume {run}" in said(capsys)
    assert (latest(run).step, best(run)) == (2, Best(0, 0.25))
    scored(monkeypatch)
    assert main(["train", "--resume", str(run)]) == 0
    assert_same_run(whole, run)


def assert_same_run(left: Path, right: Path) -> None:
    assert_trained_alike(left, right)
    assert logged(left) == logged(right)
    assert {path.name: path.read_bytes() for path in (left / "best").iterdir()} == {
        path.name: path.read_bytes() for path in (right / "best").iterdir()
    }
    assert {**summary(left), "seconds": 0} == {**summary(right), "seconds": 0}
