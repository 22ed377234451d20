"""The run's page over HTTP, for this machine alone: what it asks for is the run's, and no path leads to a file."""

import gzip
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Generic, Protocol, TypeVar

from arpo_envs import ConfigError
from arpo_envs.serving import Handler, Server

from .document import served_document, written

_HOST = "127.0.0.1"
_NUMBERED = re.compile(r"/(step|tree)/(\d{1,9})")
_SINCE = re.compile(r"since=(\d{1,20}\.\d{1,9}\.\d{1,9})")
_SMALL = 1000
"""Bytes that are sent as they are."""
_HEADERS = {
    "Cache-Control": "no-store",
    "Connection": "close",  # no thread is left waiting for a page that may never ask again
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Run(Protocol):
    """What a page is served of; its methods are called from several threads."""

    @property
    def title(self) -> str:
        """Of the page."""
        ...

    def index(self, since: str) -> Mapping[str, Any]:
        """Returns what has come since an earlier answer said "since"; with "" what comes first."""
        ...

    def step(self, step: int) -> Mapping[str, Any]:
        """Returns the lines about the trees of a step."""
        ...

    def tree(self, number: int) -> Mapping[str, Any]:
        """Returns a tree.

        Raises:
            ConfigError: it cannot be shown.
        """
        ...


Shown = TypeVar("Shown", bound=Run)


class PageServer(Server, Generic[Shown]):
    """Answers until `shutdown`.

    Args:
        run: what is shown.
        port: 0 for any free one; `url` says which.

    Raises:
        ConfigError: nothing can listen there.
    """

    def __init__(self, run: Shown, port: int) -> None:
        self.run = run
        self.document, self.policy = served_document(run.title)
        super().__init__(_HOST, port, _Handler)


class _Handler(Handler):
    server: PageServer[Run]

    def do_GET(self) -> None:
        """Answers with the page, or with what it asks for."""
        path, _, query = self.path.partition("?")
        since, numbered = _SINCE.fullmatch(query), _NUMBERED.fullmatch(path)
        if not self.server.is_for_us(self.headers.get("Host", "")):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "This server does not go by that name.")
        elif path == "/" and not query:
            headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": self.server.policy}
            self._send(HTTPStatus.OK, self.server.document, headers)
        elif path == "/index" and (since or not query):
            self._index(since[1] if since else "")
        elif numbered is not None and not query:
            self._numbered(numbered[1], int(numbered[2]))
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "There is nothing here; the page is at /.")

    def _index(self, since: str) -> None:
        found = self.server.run.index(since)
        tag = f'"{found["since"]}.{found["version"]}"'
        if self.headers.get("If-None-Match") == tag:
            self._send(HTTPStatus.NOT_MODIFIED, "", {"ETag": tag})
        else:
            self._json(HTTPStatus.OK, found, {"ETag": tag})

    def _numbered(self, what: str, number: int) -> None:
        try:
            found = self.server.run.tree(number) if what == "tree" else self.server.run.step(number)
        except (ConfigError, OSError) as error:
            self._refuse(HTTPStatus.NOT_FOUND, str(error))
        else:
            self._json(HTTPStatus.OK, found, {})

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._json(status, {"detail": reason}, {})

    def _json(self, status: HTTPStatus, value: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self._send(status, written(value), {"Content-Type": "application/json", **headers})

    def _send(self, status: HTTPStatus, text: str, headers: Mapping[str, str]) -> None:
        body, packed = text.encode("utf-8", "backslashreplace"), {}
        if len(body) > _SMALL and "gzip" in self.headers.get("Accept-Encoding", ""):
            body, packed = gzip.compress(body, 1), {"Content-Encoding": "gzip"}
        self.answer(status, body, {**_HEADERS, **headers, **packed})
