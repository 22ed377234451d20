"""A server on this machine that answers as a test says."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Request, BaseHTTPRequestHandler], None]


@dataclass
class Scripted:
    """The server's address, and what it was asked so far."""

    url: str
    asked: list[Request] = field(default_factory=list)


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def as_json(value: Any, status: int = 200) -> Answer:
    return lambda _, handler: send(handler, status, json.dumps(value).encode())


@contextmanager
def served(*answers: Answer, head: Answer = lambda _, handler: send(handler, 405, b"")) -> Iterator[Scripted]:
    """Gives the answers in turn, the last one for ever.

    Args:
        answers: to GET and POST.
        head: the answer to HEAD, which nothing is noted of.
    """
    found = Scripted("")

    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(self.command, self.path, dict(self.headers), body)
            found.asked.append(request)
            self.close_connection = True
            try:
                answers[min(len(found.asked), len(answers)) - 1](request, self)
            except OSError:  # the client had enough
                return

        def do_HEAD(self) -> None:
            head(Request(self.command, self.path, dict(self.headers), b""), self)

        do_GET = do_POST = answer

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
