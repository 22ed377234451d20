"""`verifiers`: its own command line evaluates an id, with a scripted OpenAI-compatible server as the model."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from episodes import IDS, SEED, recorded

pytestmark = pytest.mark.hubs

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


@pytest.mark.parametrize("env_id", IDS)
def test_its_command_line_evaluates_an_id(env_id, tmp_path):
    expert = recorded(env_id)
    arguments = ["--env.taskset.arguments", json.dumps(expert.arguments)]
    with model(lambda messages: expert.actions[sum(m["role"] == "assistant" for m in messages)]) as (url, asked):
        episodes = evaluated(tmp_path, url, "--env.taskset.env", env_id, "--env.taskset.seed", str(SEED), *arguments, "-n", "1")
    conversation = asked[-1]
    assert conversation[0]["role"] == "system"
    assert tuple(m["content"] for m in conversation if m["role"] == "user") == expert.observations[:-1]
    assert tuple(m["content"] for m in conversation if m["role"] == "assistant") == expert.actions[:-1]
