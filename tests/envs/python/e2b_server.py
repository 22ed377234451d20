"""A loopback server that speaks E2B's wire protocol as the SDK uses it, and can be told to fail.

The control plane (create, fork, snapshot, kill) and the sandboxes' own ports are one server, which
tells the sandboxes apart by the header `E2b-Sandbox-Id`.
"""

import contextlib
import json
import re
import select
import shutil
import socket
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from e2b_sandboxes import Interpreter, Zygote

KEY = "e2b_a1b2c3d4e5f6a7b8c9d0"
"""The only key the server knows."""


@dataclass
class Fault:
    """What goes wrong with some requests.

    Args:
        route: "create", "fork", "snapshot", "execute", "kill", "timeout", "health" or "unsnapshot".
        status: answers with this status and does nothing.
        times: how many requests it spoils; 0 for all.
        headers: sent with the status.
        message: sent with the status.
        plain: the answer is a proxy's page instead of the API's JSON.
        cut: does what was asked for, then closes the connection without (the rest of) an answer.
        seconds: waits this long before it does what was asked for; if the test ends first, it does nothing.
        children: fork only: these children fail, with `status`.
    """

    route: str
    status: int = 0
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "planned by the test"
    plain: bool = False
    cut: bool = False
    seconds: float = 0.0
    children: Sequence[int] = ()


@dataclass
class Machine:
    """A sandbox, or a snapshot of one."""

    interpreter: Interpreter
    home: Path
    lock: threading.Lock = field(default_factory=threading.Lock)
    lifetime: float = 0.0
    internet: bool = True


class E2BServer:
    """The server; `url` serves both the API and the sandboxes. Use it as a context manager."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="e2b-server-"))
        self.zygote = Zygote()
        self.sandboxes: dict[str, Machine] = {}
        self.snapshots: dict[str, Machine] = {}
        self.created: dict[str, str] = {}  # idempotency key -> sandbox
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.http = _Http(("127.0.0.1", 0), _Handler)
        self.http.server = self
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def __enter__(self) -> "E2BServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.forget()
        self.zygote.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget(self) -> None:
        """Makes the server as good as new."""
        self.over.set()
        self.over = threading.Event()
        for name in list(self.sandboxes):
            self.lose(name)
        for name in list(self.snapshots):
            self._remove(self.snapshots.pop(name))
        self.created.clear()
        self.faults.clear()
        self.requests.clear()
        self.bodies.clear()
        self.errors.clear()

    # --- what tests do -------------------------------------------------------------------------------------

    def fail(self, route: str, status: int = 0, **more: Any) -> None:
        self.faults.append(Fault(route, status, **more))

    def count(self, route: str) -> int:
        """Returns how many requests of a kind have come."""
        return self.requests.count(route)

    def lose(self, name: str) -> bool:
        """Kills a sandbox, as its time-out would."""
        machine = self.sandboxes.pop(name, None)
        if machine is not None:
            self._remove(machine)
        return machine is not None

    # --- what requests do ----------------------------------------------------------------------------------

    def home(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def create(self, template: str) -> Machine:
        home = self.home()
        source = self.snapshots.get(template)
        if source is None:
            return Machine(self.zygote.start(home), home)
        with source.lock:
            return Machine(source.interpreter.fork(home), home)

    def forked(self, machine: Machine) -> Machine:
        home = self.home()
        with machine.lock:
            return Machine(machine.interpreter.fork(home), home, internet=machine.internet)

    def adopt(self, machine: Machine, lifetime: float) -> str:
        name = uuid.uuid4().hex[:20]
        machine.lifetime = lifetime
        self.sandboxes[name] = machine
        return name

    def take(self, route: str) -> Fault | None:
        with self.lock:
            self.requests.append(route)
            fault = next((fault for fault in self.faults if fault.route == route), None)
            if fault is not None and fault.times > 0:
                fault.times -= 1
                if fault.times == 0:
                    self.faults.remove(fault)
        return fault

    def _remove(self, machine: Machine) -> None:
        machine.interpreter.close()
        shutil.rmtree(machine.home, ignore_errors=True)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    server: E2BServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keeps what is wrong with the server itself; connections are cut on purpose."""
        error = sys.exception()
        if not isinstance(error, OSError):
            self.server.errors.append(repr(error))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    @property
    def emulator(self) -> E2BServer:
        return self.server.server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_DELETE = do_GET

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}") if length else {}
        matches = ((re.fullmatch(pattern, self.path), *row) for method, pattern, *row in _ROUTES if method == self.command)
        found, route, handle = next((match for match in matches if match[0]), (None, "", _Handler.health))
        if found is None:
            self._page(404, "404 page not found")
            return
        self.emulator.bodies.append(body)
        fault = self.emulator.take(route) or Fault(route)
        if fault.seconds and self.emulator.over.wait(fault.seconds):
            self._cut()
            return
        if fault.status and not fault.children:
            (self._page if fault.plain else self._refuse)(fault.status, fault.message, fault.headers)
        elif route not in ("execute", "health") and self.headers.get("X-API-KEY") != KEY:
            self._refuse(401, f"the key {self.headers.get('X-API-KEY')} is not valid")
        else:
            handle(self, *found.groups(), body, fault)

    # --- answers -------------------------------------------------------------------------------------------

    def _json(self, status: int, body: Any, fault: Fault | None = None) -> None:
        if fault is not None and fault.cut:
            self._cut()
            return
        self._send(status, json.dumps(body).encode() if body is not None else b"", "application/json")

    def _refuse(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps({"code": status, "message": message}).encode(), "application/json", headers)

    def _page(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, text.encode(), "text/plain", headers)

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    # --- the control plane ---------------------------------------------------------------------------------

    def create(self, body: dict[str, Any], fault: Fault) -> None:
        emulator, key = self.emulator, self.headers.get("Idempotency-Key") or uuid.uuid4().hex
        with emulator.lock:
            name = emulator.created.get(key)
        if name is None:
            machine = emulator.create(body["templateID"])
            machine.internet = body.get("allow_internet_access", True)
            name = emulator.created[key] = emulator.adopt(machine, body.get("timeout", 15))
        self._json(201, _described(name), fault)

    def fork(self, name: str, body: dict[str, Any], fault: Fault) -> None:
        machine = self.emulator.sandboxes.get(name)
        if machine is None:
            self._refuse(404, f"sandbox {name} not found")
            return
        results: list[dict[str, Any]] = []
        for child in range(body.get("count", 1)):
            if child in fault.children:
                results.append({"error": {"code": fault.status, "message": fault.message}})
            else:
                twin = self.emulator.adopt(self.emulator.forked(machine), body.get("timeout", 15))
                results.append({"sandbox": _described(twin)})
        self._json(201, results, fault)

    def snapshot(self, name: str, body: dict[str, Any], fault: Fault) -> None:
        machine = self.emulator.sandboxes.get(name)
        if machine is None:
            self._refuse(404, f"sandbox {name} not found")
            return
        snapshot = f"{uuid.uuid4().hex[:12]}:default"
        self.emulator.snapshots[snapshot] = self.emulator.forked(machine)
        self._json(201, {"snapshotID": snapshot, "names": []}, fault)

    def unsnapshot(self, name: str, body: dict[str, Any], fault: Fault) -> None:
        machine = self.emulator.snapshots.pop(name.replace("%3A", ":"), None)
        if machine is None:
            self._refuse(404, "no such template")
            return
        self.emulator._remove(machine)
        self._json(204, None, fault)

    def kill(self, name: str, body: dict[str, Any], fault: Fault) -> None:
        if self.emulator.lose(name):
            self._json(204, None, fault)
        else:
            self._refuse(404, "no such sandbox")

    def prolong(self, name: str, body: dict[str, Any], fault: Fault) -> None:
        machine = self.emulator.sandboxes.get(name)
        if machine is None:
            self._refuse(404, "no such sandbox")
            return
        machine.lifetime = body["timeout"]
        self._json(204, None, fault)

    # --- a sandbox's own ports -----------------------------------------------------------------------------

    def _machine(self) -> Machine | None:
        name = self.headers.get("E2b-Sandbox-Id", "")
        machine = self.emulator.sandboxes.get(name)
        if machine is None:
            message = json.dumps({"sandboxId": name, "message": "The sandbox was not found", "code": 502})
            self._send(502, message.encode(), "application/json")
        return machine

    def health(self, body: dict[str, Any], fault: Fault) -> None:
        if self._machine() is not None:
            self._json(204, None, fault)

    def execute(self, body: dict[str, Any], fault: Fault) -> None:
        machine = self._machine()
        if machine is None:
            return
        with machine.lock:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if self._stream(machine, body["code"], fault):
                self.wfile.write(b"0\r\n\r\n")

    def _stream(self, machine: Machine, code: str, fault: Fault) -> bool:
        """Runs the cell; says whether its whole output reached the client."""
        ended, listening, interrupted = False, True, False
        for event in machine.interpreter.execute(code):
            if event is None:
                listening = listening and not self._hung_up()
            elif listening:
                listening = self._chunk(event)
                if fault.cut:
                    self._cut()
                    listening = False
                    continue
            if event is not None and event["type"] == "end_of_execution":
                ended = True
            elif not listening and not fault.cut and not interrupted:
                machine.interpreter.interrupt()  # as E2B's server does when the client goes away
                interrupted = True
        if not ended and any(machine is other for other in self.emulator.sandboxes.values()):
            machine.interpreter.close()
            machine.interpreter = self.emulator.zygote.start(machine.home)
            return listening and all(map(self._chunk, (_RESTARTED, {"type": "end_of_execution"})))
        if not ended and listening:
            self._cut()
            return False
        return listening

    def _chunk(self, event: dict[str, Any]) -> bool:
        line = json.dumps(event).encode() + b"\n"
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        except OSError:
            self.close_connection = True
            return False
        return True

    def _hung_up(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        if not readable:
            return False
        try:
            gone = not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            gone = True
        self.close_connection = self.close_connection or gone
        return gone


_RESTARTED = {"type": "error", "name": "ContextRestarting", "value": "Context was restarted", "traceback": ""}

_Handle = Callable[..., None]
_ROUTES: list[tuple[str, str, str, _Handle]] = [
    ("POST", r"/v2/sandboxes", "create", _Handler.create),
    ("POST", r"/sandboxes/([^/]+)/fork", "fork", _Handler.fork),
    ("POST", r"/sandboxes/([^/]+)/snapshots", "snapshot", _Handler.snapshot),
    ("POST", r"/sandboxes/([^/]+)/timeout", "timeout", _Handler.prolong),
    ("DELETE", r"/sandboxes/([^/]+)", "kill", _Handler.kill),
    ("DELETE", r"/templates/([^/]+)", "unsnapshot", _Handler.unsnapshot),
    ("GET", r"/health", "health", _Handler.health),
    ("POST", r"/execute", "execute", _Handler.execute),
]


def _described(name: str) -> dict[str, Any]:
    return {
        "templateID": "code-interpreter-v1",
        "sandboxID": name,
        "clientID": "loopback",
        "envdVersion": "0.5.4",
        "envdAccessToken": f"token-{name}",
    }
