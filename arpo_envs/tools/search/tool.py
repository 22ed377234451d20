"""The tool `search` over a fixed corpus, in process: no server, no download."""

from collections.abc import Mapping
from typing import Any

from ...tasks.world import Corpus
from .. import Stateless, ToolResult
from ..spec import ToolSpec
from .dense import DenseEngine
from .engines import chosen_engine
from .index import index_of
from .results import SPEC, require_results, written

_VERSION = 1
"""Of what a query finds in given documents: it grows when that changes, and old recordings then have no answers."""


class SearchTool(Stateless):
    """The tool `search`: the texts of the best documents, one per line.

    Args:
        corpus: what can be found.
        results: how many documents a call returns, 1 to 50.
        engine: "tantivy", "sqlite", or "auto" for the first of them that is installed; or "dense:package.module:object" or a
            `DenseEngine`, for vectors.

    Raises:
        ConfigError: an argument is unknown, or out of range.

    >>> from arpo_envs.tasks.world import load_world
    >>> tool = SearchTool(load_world(2), results=1)
    >>> tool.call("search", {"query": "paris"}, timeout=1.0).text[:21]
    'Paris: city in France'
    """

    def __init__(self, corpus: Corpus, *, results: int = 3, engine: str | DenseEngine = "auto") -> None:
        require_results(results)
        self.corpus, self.results, self.engine = corpus, results, chosen_engine(engine)
        self.index = index_of(corpus, self.engine)

    @property
    def identity(self) -> str:
        """What distinguishes this tool from another `search`: see `ToolEnv.identity`."""
        return f"{self.corpus.name}/{self.results}"

    @property
    def pure(self) -> Mapping[str, Any] | None:
        """What the results of a query depend on; None with an embedder without a name."""
        if not self.index.engine_identity:
            return None
        found = {"corpus": self.index.digest, "engine": self.index.engine_identity, "results": self.results}
        return {"version": _VERSION} | found

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """The one name `search`."""
        return (SPEC,)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by reference: the index is built again, and shared, on the other side."""
        return _rebuilt, (type(self), self.corpus, self.results, self.engine)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SearchTool":
        """Returns itself: nothing in it ever changes."""
        return self

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        """Searches once; a query that finds nothing is not an error, and the result says so."""
        query = str(arguments["query"])
        found = self.index.search(query, self.results)
        return written([document.text for document in found], query)


def _rebuilt(kind: type[SearchTool], corpus: Corpus, results: int, engine: str | DenseEngine) -> SearchTool:
    return kind(corpus, results=results, engine=engine)
