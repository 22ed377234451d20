"""What steps cost, and that a run ends with the step that reaches its budget of tool calls, however often it is interrupted."""

import json

import pytest
from rollout_toys import build
from test_cli_train import arguments, exit_status, logged, said, weights
from test_metrics import batch, leaf, node

from algorithms.cli import main, train
from algorithms.cli.budget import CallBudget
from algorithms.cli.tracked import Tracked
from algorithms.metrics import summarise, summarise_costs
from algorithms.tree import Status

pytestmark = pytest.mark.usefixtures("wide_terminal")


def test_costs_of_a_batch_by_hand():
    assert summarise_costs(batch()) == {"tool_calls": 2.0 + 2.0, "unforked_reward": pytest.approx((1 + 0) / 2)}
    assert set(summarise_costs([]).values()) == {0.0}


def test_what_forks_add_does_not_change_the_reward_without_forks():
    def tree(forks: int, **end):
        return build(
            node((), -1, [9]),
            node((0,), 0, [1], origin="root", tool="search"),
            node((0, 0), 1, [5], kind="observation"),
            leaf((0, 0, 0), 2, 0.25, **end),
            *(leaf((0, 0, 1 + place), 2, 1.0, origin="branch") for place in range(forks)),
        )

    assert [summarise_costs([tree(forks)])["unforked_reward"] for forks in (0, 1, 3)] == [0.25] * 3
    assert summarise([tree(3)])["reward"] == pytest.approx(3.25 / 4)
    failed = tree(1, status=Status.TOOL_FAULT, success=None)
    assert summarise_costs([failed])["unforked_reward"] == 0.0, "nothing is known of the policy"


def test_a_prompt_counts_as_much_however_many_paths_were_back_filled_or_failed():
    def tree(reward: float, valid: int, backfills: int):
        return build(
            node((), -1, [9]),
            *(leaf((place,), 0, reward, origin="root") for place in range(valid)),
            *(node((place,), 0, [], origin="root", status=Status.POLICY_FAULT) for place in range(valid, 3)),
            *(leaf((place,), 0, 1.0 - reward, origin="backfill") for place in range(3, 3 + backfills)),
        )

    trees = [tree(1.0, 3, 0), tree(0.0, 1, 5), tree(0.5, 0, 2)]
    assert summarise_costs(trees)["unforked_reward"] == pytest.approx((1.0 + 0.0) / 2), "of the last one nothing is known"


def test_a_budget_counts_whole_lines_and_ends_when_it_is_reached(tmp_path):
    file = tmp_path / "metrics.jsonl"
    assert CallBudget.of(5, file).spent == 0.0
    file.write_text('{"step": 0, "tool_calls": 3.0}\n{"step": 1, "tool_calls": 1.0}\n{"step": 2, "tool_c', encoding="utf-8")
    budget = CallBudget.of(5, file)
    assert (budget.spent, budget.is_spent) == (4.0, False)
    budget.spend({"tool_calls": 1.0})
    assert budget.is_spent
    assert not CallBudget.of(None, file).is_spent


def test_a_budget_beside_a_decay_to_the_last_step_is_refused(tiny_policy, tmp_path, capsys):
    words = arguments(tiny_policy, tmp_path / "run", "--budget-calls", "9", "--decay", "linear")
    assert exit_status(words) == 2
    assert "--decay ends at --steps, but --budget-calls may end the run earlier" in said(capsys)
    assert exit_status(arguments(tiny_policy, tmp_path / "run", "--budget-calls", "0")) == 2
    assert "budget_calls must be at least 1" in said(capsys)


def test_the_step_that_reaches_the_budget_is_recorded_as_the_last_one(tiny_policy, tmp_path, monkeypatch):
    tables = []
    monkeypatch.setattr(CallBudget, "spend", lambda self, metrics: setattr(self, "spent", self.spent + 1.0))
    monkeypatch.setattr(Tracked, "_table", lambda self, name, rows: tables.append(name))
    more = ["--checkpoint-every", "9", "--budget-calls", "3", "--prompts", "1", "--eval-questions", "1"]
    assert main(arguments(tiny_policy, tmp_path / "run", *more, steps=9)) == 0
    assert len(logged(tmp_path / "run")) == 3
    assert tables.count("rollouts") == tables.count("entropy_around_results") == 2, "of the first step and of the last"


@pytest.mark.slow
def test_a_run_ends_with_the_step_that_reaches_the_budget_also_after_an_interruption(
    finished, tiny_policy, tmp_path, monkeypatch
):
    calls = [step["tool_calls"] for step in logged(finished)]
    assert len(calls) == 3
    run, budget = tmp_path / "run", str(int(calls[0] + calls[1]))
    words = arguments(tiny_policy, run, "--checkpoint-every", "9", "--budget-calls", budget, steps=9)

    def broken(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train, "report", broken)  # all steps are done, and nothing but the report is left
        assert main(words) == 130
    saved = weights(run)
    assert main(["train", "--resume", str(run)]) == 0
    assert logged(run) == logged(finished)[:2]
    assert all((weights(run)[name] == value).all() for name, value in saved.items())
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["success_after_sampled"] is not None
