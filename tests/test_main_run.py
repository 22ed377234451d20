"""The main job, whole: a cold start with a bad habit, and ARPO that unlearns it."""

import json

import pytest

from algorithms.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_arpo_turns_the_habit_into_the_right_decision(tmp_path):
    run = tmp_path / "run"
    assert main(["train", "--output", str(run), "--seed", "1"]) == 0
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["success_before_greedy"] <= 0.20
    assert summary["success_before_sampled"] <= 0.40
    assert summary["success_after_greedy"] >= summary["success_before_greedy"] + 0.5
    assert summary["success_after_sampled"] >= summary["success_before_sampled"] + 0.3
    assert summary["success_closed_book"] <= summary["success_majority"] + 0.03
    assert summary["inherited_tool_calls_per_prompt"] > 0
