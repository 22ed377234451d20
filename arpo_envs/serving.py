"""What every HTTP server of this suite does alike: it listens or says why not, knows its own names, and is quiet."""

import ipaddress
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .errors import ConfigError

LOCAL = ("localhost", "127.0.0.1", "[::1]")
_SECONDS = 30.0
"""For which a client may send nothing."""


class Server(ThreadingHTTPServer):
    """Answers until `shutdown`; each connection has a thread of its own.

    Args:
        host: the address to listen at.
        port: 0 for any free one; `url` says which.
        handler: answers requests.

    Raises:
        ConfigError: nothing can listen there.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: "type[Handler]") -> None:
        self.host = host
        try:
            super().__init__((host, port), handler)
        except OSError as error:
            advice = "Choose another --port." if port else "Check --host."
            raise ConfigError(f"Cannot listen at {host}:{port}: {error.strerror or error}. {advice}") from error

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.host}:{self.server_address[1]}"

    def is_for_us(self, host: str) -> bool:
        """Whether a request's Host is one of this server's names: a web page must not reach it under a name of its own.

        A server that was asked to listen to other machines goes by any name.
        """
        if not ipaddress.ip_address(str(self.server_address[0])).is_loopback:
            return True
        names = (*LOCAL, self.host)
        return host.rpartition(":")[0] in names or host in names

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that hang up, as a browser does when a page is loaded again."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers a client's requests, one after the other."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: a client's kernel may wait 40 ms before it confirms the first of two
    timeout = _SECONDS

    def answer(self, status: HTTPStatus, body: bytes, headers: Mapping[str, str]) -> None:
        """Sends an answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing: a line per request would hide everything else."""
