"""A server on this machine whose chat model judges as a test says."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

Reply = Callable[[str], Any]
"""A prompt -> what the model says; a number is a status, and bytes are a whole body."""


@dataclass
class Chat:
    """The server's address, the bodies it was sent, and the keys."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)


def read(prompt: str) -> tuple[str, list[str], str, str]:
    """Reads a prompt as the judge is told to: question, accepted answers, answer, code."""
    lines = prompt.split("\n")
    texts = {"question": [], "accepted answer": [], "answer": []}
    for line in lines:
        name, colon, written = line.partition(": ")
        if colon and name in texts:
            texts[name].append(json.loads(written))
    (question,), accepted, (answer,) = texts.values()
    return question, accepted, answer, lines[-1].partition(" ")[0]


def truthful(prompt: str) -> str:
    """Says whether the answer contains an accepted one."""
    _, accepted, answer, code = read(prompt)
    return f"Let me see.\n{code} {'RIGHT' if any(one in answer for one in accepted) else 'WRONG'}"


@contextmanager
def chat(reply: Reply = truthful, *, listed: int = 200) -> Iterator[Chat]:
    """Serves /v1/models, with a status, and /v1/chat/completions."""
    found = Chat()

    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            models = {"object": "list", "data": [{"id": "judge-7b"}, {"id": "other"}]}
            self._send(200, models) if listed == 200 else self._refuse(listed)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with found.lock:
                found.asked.append(body)
                found.keys.append(self.headers.get("Authorization"))
                said = reply(body["messages"][0]["content"])
            if isinstance(said, int):
                self._refuse(said)
            elif isinstance(said, bytes):
                self._send(200, said)
            else:
                self._send(200, {"choices": [{"message": {"role": "assistant", "content": said}}]})

        def _refuse(self, status: int) -> None:
            self._send(status, {"error": {"message": f"key {self.headers.get('Authorization')} refused"}})

        def _send(self, status: int, body: Any) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
