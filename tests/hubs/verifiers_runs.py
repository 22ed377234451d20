"""Runs `verifiers` natively: its own command line, with a scripted OpenAI-compatible server as the model."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Whole:
    """A reply that is sent as it is, whatever it is."""

    message: Any


Say = Callable[[list[dict[str, Any]]], str | dict[str, Any] | Whole]
"""From a conversation to the text of the reply, to a function that it calls, or to a whole reply."""


class Server(ThreadingHTTPServer):
    """As many episodes as run at once may connect at once."""

    request_queue_size = 128


@contextmanager
def model(say: Say) -> Iterator[tuple[str, list[list[dict[str, Any]]]]]:
    """Serves chat completions on loopback; yields its URL, and the conversations that it will have been asked about."""
    asked: list[list[dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(request["messages"])
            said = say(request["messages"])
            message: Any = {"role": "assistant", "content": said if isinstance(said, str) else ""}
            if isinstance(said, Whole):
                message = said.message
            elif not isinstance(said, str):
                message["tool_calls"] = [{"id": f"call{len(asked)}", "type": "function", "function": said}]
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

    with Server(("127.0.0.1", 0), Handler) as server:
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
    main([*options, *common, "--client.base-url", url, "--client.api-key-var", "SCRIPTED_KEY"])
    return [json.loads(line) for line in (folder / "run" / "traces.jsonl").read_text().splitlines()]


def said(messages: list[dict[str, Any]], *roles: str) -> tuple[str, ...]:
    return tuple(message["content"] for message in messages if message["role"] in roles)
