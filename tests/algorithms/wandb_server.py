"""A server on this machine that takes runs of wandb as far as it must, until it dies, hangs or only fails."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WandbServer(ThreadingHTTPServer):
    """Answers wandb, and keeps the history that it is sent.

    Attributes:
        trouble: "" while it works, then "dies", "hangs" or "fails".
        history: what it was sent of a run's history, by step.
    """

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.trouble, self.released = "", threading.Event()
        self.history: dict[int, dict[str, Any]] = {}

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Ignores those who went away before they were answered."""

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        """Returns what wandb is answered: the least with which it goes on."""
        if "file_stream" in path:
            sent = json.loads(body).get("files", {}).get("wandb-history.jsonl", {}).get("content", ())
            self.history |= {row["_step"]: row for row in map(json.loads, sent)}
        if path != "/graphql":
            return {}
        request = json.loads(body)
        if "CreateRunFiles" not in request["query"]:
            return {"data": {}}
        files = [{"name": name, "uploadUrl": f"{self.url}/{name}"} for name in request["variables"]["files"]]
        return {"data": {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}}


class _Answers(BaseHTTPRequestHandler):
    server: WandbServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.trouble == "hangs":
            self.server.released.wait()
        if self.server.trouble:
            self.send_error(500)
            return
        answer = json.dumps(self.server.answer(self.path, body)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST

    def log_message(self, *_: object) -> None:
        """Prints nothing."""


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """Gives a server that works."""
    with WandbServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()
