r"""A retrieval server of Search-R1's protocol over an index: `POST /retrieve`.

Requests are `{"queries": [text, …], "topk": n, "return_scores": bool}`, or `{"query": text, …}` for one; answers are
`{"result": [[…], …]}`, one list of documents per query. A document is `{"contents": "\"title\"\ntext"}`; with scores
it is `{"document": …, "score": …}`. The score is the reciprocal of the position: an exact title comes first here, whatever
the ranking function says, so no score of that function would order the documents.
"""

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from ...errors import ToolFault
from ...serving import Handler, Server
from ...tasks.world import Document
from .index import Index
from .results import MAX_RESULTS

ROUTE = "/retrieve"
_MOST_BYTES = 1 << 20
"""Bytes of a request."""
_MOST_QUERIES = 1024


class Refused(Exception):
    """A request that cannot be answered: the status, and why."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class RetrieveServer(Server):
    """Answers until `shutdown`; each connection has a thread of its own.

    Args:
        index: what is searched.
        host: the address to listen at.
        port: 0 for any free one; `url` says which.
        topk: documents per query, for requests that do not say.

    Raises:
        ConfigError: nothing can listen there.
    """

    def __init__(self, index: Index, *, host: str = "127.0.0.1", port: int = 8000, topk: int = 3) -> None:
        self.index, self.topk = index, topk
        super().__init__(host, port, _Handler)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"{super().url}{ROUTE}"

    def answer(self, request: Any) -> dict[str, Any]:
        """Returns the answer to a request.

        Raises:
            Refused: it is not one.
        """
        queries, count, scored = self._asked(request)
        return {"result": [_listed(found, scored=scored) for found in self.index.search_all(queries, count)]}

    def _asked(self, request: Any) -> tuple[list[str], int, bool]:
        if not isinstance(request, dict) or ("queries" in request) == ("query" in request):
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, 'Expected an object with "queries" (a list) or "query" (a string).')
        queries = request["queries"] if "queries" in request else [request["query"]]
        if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "Queries must be strings.")
        if len(queries) > _MOST_QUERIES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"At most {_MOST_QUERIES} queries per request.")
        count = request.get("topk") or self.topk
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_RESULTS:
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f'"topk" must lie in 1..{MAX_RESULTS}.')
        return queries, count, bool(request.get("return_scores"))


def _listed(documents: Sequence[Document], *, scored: bool) -> list[dict[str, Any]]:
    # the protocol ends a title at the first line break
    found = [{"contents": f'"{" ".join(document.title.split())}"\n{document.text}'} for document in documents]
    return [{"document": each, "score": 1.0 / place} for place, each in enumerate(found, 1)] if scored else found


class _Handler(Handler):
    server: RetrieveServer

    def do_POST(self) -> None:
        """Answers a request."""
        try:
            status, answer = HTTPStatus.OK, self.server.answer(self._request())
        except Refused as refused:
            status, answer = refused.status, {"detail": str(refused)}
            self.close_connection = True  # what is left of its body would be taken for the next request
        except ToolFault as fault:
            status, answer = HTTPStatus.INTERNAL_SERVER_ERROR, {"detail": str(fault)}
        self._send(status, answer)

    def do_GET(self) -> None:
        """Says what it is, to whoever looks."""
        try:
            self._require_name()
        except Refused as refused:
            self._send(refused.status, {"detail": str(refused)})
        else:
            self._send(HTTPStatus.OK, {"route": f"POST {ROUTE}", "documents": len(self.server.index.documents)})

    def _require_name(self) -> None:
        if not self.server.is_for_us(self.headers.get("Host", "")):
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "This server does not go by that name.")

    def _request(self) -> Any:
        self._require_name()
        if self.path.rstrip("/") != ROUTE:
            raise Refused(HTTPStatus.NOT_FOUND, f"Post to {ROUTE}.")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "Content-Length is needed.")
        if len(length) > len(str(_MOST_BYTES)) or int(length) > _MOST_BYTES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"At most {_MOST_BYTES >> 20} MB per request.")
        try:
            return json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise Refused(HTTPStatus.BAD_REQUEST, "The body is not JSON.") from None

    def _send(self, status: HTTPStatus, answer: Any) -> None:
        self.answer(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})
