"""`verifiers`: its own command line evaluates an id, with a scripted OpenAI-compatible server as the model."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from episodes import IDS, SEED, recorded

pytestmark = pytest.mark.hubs

MINI = "ARPO/SearchMini-v0"
Say = Callable[[list[dict[str, Any]]], str]


@contextmanager
def model(say: Say) -> Iterator[tuple[str, list[list[dict[str, Any]]]]]:
    """Serves chat completions on loopback; yields its URL, and the conversations that it will have been asked about."""
    asked: list[list[dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(request["messages"])
            message = {"role": "assistant", "content": say(request["messages"])}
            reply = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": request["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
            body = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", asked
        finally:
            server.shutdown()
            thread.join()


def evaluated(folder: Path, url: str, *options: str) -> list[dict[str, Any]]:
    """Runs `vf-eval` and returns the traces that it wrote."""
    from verifiers.v1.cli.eval.main import main

    common = ["--no-push", "--no-rich", "--run.name", "run", "-o", str(folder), "-m", "scripted"]
    main(["arpo-envs-verifiers", *options, *common, "--client.base-url", url, "--client.api-key-var", "SCRIPTED_KEY"])
    return [json.loads(line) for line in (folder / "run" / "traces.jsonl").read_text().splitlines()]


def said(messages: list[dict[str, Any]], role: str) -> tuple[str, ...]:
    return tuple(message["content"] for message in messages if message["role"] == role)


@pytest.mark.parametrize("env_id", IDS)
def test_its_command_line_evaluates_an_id(env_id, tmp_path):
    expert = recorded(env_id)
    chosen = ["--env.taskset.env", env_id, "--env.taskset.seed", str(SEED), "-n", "1"]
    arguments = ["--env.taskset.arguments", json.dumps(expert.arguments)]
    with model(lambda messages: expert.actions[len(said(messages, "assistant"))]) as (url, asked):
        (episode,) = evaluated(tmp_path, url, *chosen, *arguments)
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
        episodes = evaluated(tmp_path, url, *chosen)
    assert sorted(said(messages, "user")[0] for messages in asked) == sorted([*questions, *questions])
    assert [episode["traces"][0]["rewards"]["reward"]["score"] for episode in episodes] == [0.0] * 4
    assert {episode["task"]["data"]["seed"] for episode in episodes} == {5, 6}


def test_garbage_is_told_and_what_cannot_be_an_action_is_an_error_of_its_episode(tmp_path):
    garbage = iter(["garbage", "", "<answer>x</answer>", "x" * 10_000_000])
    chosen = ["--env.taskset.env", MINI, "-n", "2", "-c", "1"]
    with model(lambda messages: next(garbage)) as (url, asked):
        told, refused = evaluated(tmp_path, url, *chosen)
    assert "No tool call and no answer" in said(asked[1], "user")[-1]
    assert told["traces"][0]["rewards"]["reward"]["score"] == -1  # what is no action costs the reward for form
    assert told["errors"] == []
    assert "at most 1,048,576 characters" in json.dumps(refused["errors"])
    assert "reward" not in refused["traces"][0].get("rewards", {})


def test_an_unknown_id_is_refused_before_anything_runs(tmp_path):
    with model(lambda messages: "") as (url, asked), pytest.raises(Exception, match="Did you mean: `Search`"):
        evaluated(tmp_path, url, "--env.taskset.env", "ARPO/Serch-v0", "-n", "1")
    assert asked == []
