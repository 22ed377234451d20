"""Servers on this machine that say, byte by byte, what a test wants, and sites that reach them by any name."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from arpo_envs.tools.browser import Document, LiveSite, PageError

Said = bytes | Callable[[socket.socket], None]


def says(body: bytes = b"<p>hello", status: int = 200, **headers: str) -> bytes:
    """Returns a whole answer; `Content_Length=""` leaves that header out."""
    told = {"Content-Type": "text/html", "Content-Length": str(len(body))}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in told.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def redirects(location: str, status: int = 302) -> bytes:
    return says(b"", status, Location=location)


@dataclass
class Server:
    """Where it listens, and what it was asked.

    Args:
        port: of 127.0.0.1, or of the host it was made for.
        asked: the host and path of every request.
        headers: of every request.
        names: that were asked for in handshakes.
        sent: bytes that `endlessly` sent.
    """

    port: int
    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sent: int = 0

    @property
    def paths(self) -> list[str]:
        return [path for _, path in self.asked]

    def endlessly(self, head: bytes, piece: bytes, most: int = 64 << 20, pause: float = 0.0) -> Callable[[socket.socket], None]:
        """Sends a piece again and again until the other side has enough, or `most` bytes were sent."""

        def send(connection: socket.socket) -> None:
            connection.sendall(head)
            while self.sent < most and not stopped.wait(pause):
                connection.sendall(piece)
                self.sent += len(piece)

        stopped = threading.Event()
        return send


@contextmanager
def serving(
    routes: Mapping[str, Said], *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """Answers each path as said, others with 404; a connection serves one request after the other until one wants it closed."""
    with socket.create_server((host, port)) as listening:
        found = Server(listening.getsockname()[1])
        threads: list[threading.Thread] = []

        def talk(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                connection.settimeout(10.0)
                with (
                    tls.wrap_socket(connection, server_side=True) if tls else connection as talking,
                    talking.makefile("rb") as lines,
                ):
                    while first := lines.readline():
                        headers = {}
                        while line := lines.readline().decode("latin-1").strip():
                            name, _, value = line.partition(": ")
                            headers[name.lower()] = value
                        path = first.split()[1].decode()
                        found.asked.append((headers.get("host", ""), path))
                        found.headers.append(headers)
                        said = routes.get(path.partition("?")[0], says(b"", 404))
                        if callable(said):
                            said(talking)
                            return
                        talking.sendall(said)
                        if headers.get("connection") == "close" or b"Connection: close" in said[:999]:
                            return

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threads.append(threading.Thread(target=talk, args=(listening.accept()[0],)))
                    threads[-1].start()

        if tls is not None:
            tls.sni_callback = lambda _, name, __: found.names.append(name)
        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield found
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            listener.join()
            for thread in threads:
                thread.join()


def site(names: Mapping[str, list[str]] | None = None, **arguments: Any) -> LiveSite:
    """Returns a site that resolves names as told, all others to 127.0.0.1, and may go there."""
    known = names or {}
    usual: dict[str, Any] = {"allow": ("127.0.0.1/32",), "ports": None, "robots": False, "tries": 1}
    return LiveSite(**usual | {"resolver": lambda name: known.get(name, ["127.0.0.1"])} | arguments)


def told(found: Document | PageError) -> str:
    """Returns why there is no page."""
    assert isinstance(found, PageError), found.url
    return found.text


def shown(found: Document | PageError) -> str:
    """Returns the HTML of a page."""
    assert isinstance(found, Document), found.text
    assert isinstance(found.html, str)
    return found.html


def served_page(answer: bytes = b"", *, after: float) -> Callable[[socket.socket], None]:
    """Answers once some seconds have passed."""

    def send(connection: socket.socket) -> None:
        time.sleep(after)
        connection.sendall(answer or says())

    return send
