"""`verifiers`: its own command line evaluates an id, with a scripted OpenAI-compatible server as the model."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from episodes import IDS, SEED, recorded
from verifiers_runs import evaluated, model, said

pytestmark = pytest.mark.hubs

MINI = "ARPO/SearchMini-v0"


def ours(folder: Path, url: str, *options: str) -> list[dict[str, Any]]:
    return evaluated(folder, url, "arpo-envs-verifiers", *options)


@pytest.mark.parametrize("env_id", IDS)
def test_its_command_line_evaluates_an_id(env_id, tmp_path):
    expert = recorded(env_id)
    chosen = ["--env.taskset.env", env_id, "--env.taskset.seed", str(SEED), "-n", "1"]
    arguments = ["--env.taskset.arguments", json.dumps(expert.arguments)]
    with model(lambda messages: expert.actions[len(said(messages, "assistant"))]) as (url, asked):
        (episode,) = ours(tmp_path, url, *chosen, *arguments)
    (trace,) = episode["traces"]
    assert episode["errors"] == trace["errors"] == []
    assert trace["rewards"] == {"reward": {"score": 1.0, "weight": 1.0}}
    assert trace["metrics"] == {"turn": 3.0, "tool_calls": 2.0, "success": 1.0}
    assert said(asked[0], "system")[0].endswith("ends the conversation.")
    assert said(asked[-1], "user") == expert.observations[:-1]
    messages = [node["message"] for node in trace["nodes"]]
    assert said(messages, "user") == expert.observations[:-1]
    assert said(messages, "assistant") == expert.actions
    assert not set(episode["task"]["data"]) & {"answer", "answers"}


def test_splits_and_seeds_choose_the_tasks(tmp_path):
    env = gym.make(MINI, split="test")
    questions = [env.reset(seed=seed)[0] for seed in (5, 6)]
    chosen = ["--env.taskset.env", MINI, "--env.taskset.split", "test", "--env.taskset.seed", "5", "-n", "2", "-r", "2"]
    with model(lambda messages: "<answer>no idea</answer>") as (url, asked):
        episodes = ours(tmp_path, url, *chosen)
    assert sorted(said(messages, "user")[0] for messages in asked) == sorted([*questions, *questions])
    assert [episode["traces"][0]["rewards"]["reward"]["score"] for episode in episodes] == [0.0] * 4
    assert {episode["task"]["data"]["seed"] for episode in episodes} == {5, 6}


def test_garbage_is_told_and_what_cannot_be_an_action_is_an_error_of_its_episode(tmp_path):
    garbage = iter(["garbage", "", "<answer>x</answer>", "x" * 10_000_000])
    chosen = ["--env.taskset.env", MINI, "-n", "2", "-c", "1"]
    with model(lambda messages: next(garbage)) as (url, asked):
        told, refused = ours(tmp_path, url, *chosen)
    assert "No tool call and no answer" in said(asked[1], "user")[-1]
    assert told["traces"][0]["rewards"]["reward"]["score"] == -1  # what is no action costs the reward for form
    assert told["errors"] == []
    assert "at most 1,048,576 characters" in json.dumps(refused["errors"])
    assert "reward" not in refused["traces"][0].get("rewards", {})


def test_an_unknown_id_is_refused_before_anything_runs(tmp_path):
    with model(lambda messages: "") as (url, asked), pytest.raises(Exception, match="Did you mean: `Search`"):
        ours(tmp_path, url, "--env.taskset.env", "ARPO/Serch-v0", "-n", "1")
    assert asked == []
