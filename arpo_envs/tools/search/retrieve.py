"""The tool `search` behind a server that speaks the protocol of Search-R1 (`POST /retrieve`)."""

from collections.abc import Mapping
from typing import Any, Literal

from ...errors import ConfigError, ToolFault
from ...tasks.world import Document
from .. import Stateless, ToolResult
from ..spec import ToolSpec
from .results import SPEC, asked_for, require_results, written
from .service import JsonService, TooSlow

Form = Literal["queries", "query"]


class RetrieveTool(Stateless):
    """The tool `search`: a retrieval server ranks the documents.

    The protocol is that of Search-R1 (arXiv 2503.09516, `retrieval_server.py`): the request is
    `{"queries": [text], "topk": n, "return_scores": true}`, the answer `{"result": [[{"document": {"contents": …}}]]}`.
    Contents are a title in quotation marks, a line break, and a text.

    Args:
        url: of the route, such as http://localhost:8000/retrieve.
        results: how many documents a call returns, 1 to 50.
        form: "queries" asks for a list of one query; "query" for one, as SkyRL-gym's servers want it.

    Raises:
        ConfigError: an argument is out of range, or httpx is not installed.
    """

    def __init__(self, url: str, *, results: int = 3, form: Form = "queries") -> None:
        require_results(results)
        if form not in ("queries", "query"):
            raise ConfigError(f"form must be 'queries' or 'query', got {form!r}.")
        self.url, self.results, self.form = url, results, form
        self._service = JsonService(url)

    @property
    def identity(self) -> str:
        """What distinguishes this tool from another `search`: see `ToolEnv.identity`."""
        return f"{self.url}/{self.results}"

    @property
    def pure(self) -> Mapping[str, Any]:
        """What the results of a query depend on, as far as can be seen from here."""
        return {"url": self.url, "results": self.results, "form": self.form}

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The one name `search`."""
        return (SPEC,)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles without its connections."""
        return _rebuilt, (type(self), self.url, self.results, self.form)

    def __deepcopy__(self, memo: dict[int, Any]) -> "RetrieveTool":
        """Returns itself: nothing in it ever changes."""
        return self

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        """Searches once; a server that is still answering when the time is up is a result.

        Raises:
            ToolLost: the server is gone, or gives no sign of life.
            ToolFault: it refuses, or does not speak the protocol.
        """
        query = asked_for(arguments)
        asked = {"queries": [query]} if self.form == "queries" else {"query": query}
        try:
            answer = self._service.ask("POST", timeout=timeout, body={**asked, "topk": self.results, "return_scores": True})
        except TooSlow:
            return ToolResult(f"timed out after {timeout:g} s", "timeout")
        return written([_text(found) for found in self._found(answer)[: self.results]], query)

    def _found(self, answer: Any) -> list[Any]:
        """Returns the documents for the one query."""
        rows = answer.get("result") if isinstance(answer, dict) else None
        if isinstance(rows, list) and len(rows) == 1 and isinstance(rows[0], list):
            return rows[0]
        raise ToolFault(f"{self.url} does not answer as a Search-R1 server does. Expected " + '{"result": [[…]]}.')


def _text(found: Any) -> str:
    """Returns a document's text, on one line, with its title in front."""
    document = found.get("document", found) if isinstance(found, dict) else None
    contents = document.get("contents") if isinstance(document, dict) else None
    if not isinstance(contents, str):
        raise ToolFault('The retrieval server returned a document without "contents".')
    title, line_break, text = contents.partition("\n")
    if not line_break:  # no title
        return " ".join(contents.split())
    title, text = " ".join(_unquoted(title.strip()).split()), " ".join(text.split())
    return Document.titled(title, text).text


def _unquoted(title: str) -> str:
    """Returns a title without the marks around it; those that belong to it stay.

    >>> _unquoted('""Weird Al" Yankovic"'), _unquoted("Plain")
    ('"Weird Al" Yankovic', 'Plain')
    """
    return title[1:-1] if len(title) > 1 and title[0] == title[-1] == '"' else title


def _rebuilt(kind: type[RetrieveTool], url: str, results: int, form: Form) -> RetrieveTool:
    return kind(url, results=results, form=form)
