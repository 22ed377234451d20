"""The tool `search`, whatever ranks the documents: an index in this process, a retrieval server, an engine on the web.

`SearchTool` searches a corpus with `index.py`, whose engines are in `engines.py`; `RetrieveTool` asks a server of Search-R1's
protocol, which `serve.py` speaks as well; `LiveSearchTool` asks any engine that is described by data. `make_search` chooses
among them by a name, a path or a URL.
"""

from pathlib import Path

from ...errors import unknown_name
from ...tasks.world import Corpus
from .. import Tool
from .engines import ENGINES, chosen_engine
from .index import Index, index_of
from .live import LIVE_ENGINES, LiveEngine, LiveSearchTool
from .results import MAX_RESULTS, SPEC
from .retrieve import RetrieveTool
from .tool import SearchTool

__all__ = [
    "LIVE_ENGINES",
    "MAX_RESULTS",
    "SPEC",
    "Index",
    "LiveEngine",
    "LiveSearchTool",
    "RetrieveTool",
    "SearchTool",
    "chosen_engine",
    "index_of",
    "is_elsewhere",
    "make_search",
]


def is_elsewhere(engine: str) -> bool:
    """Whether an engine has documents of its own: a URL, a name in `LIVE_ENGINES`, or a JSON file that describes one."""
    return engine.startswith(("http://", "https://")) or engine in LIVE_ENGINES or Path(engine).suffix == ".json"


def make_search(engine: str, corpus: Corpus, *, results: int = 3) -> Tool:
    """Returns the tool `search`.

    Args:
        engine: "auto", "tantivy" or "sqlite" for an index of the corpus; the URL of a Search-R1 server; a name in
            `LIVE_ENGINES`; or the path of a JSON file that describes an engine.
        corpus: what an index finds; the others have documents of their own.
        results: documents that one search returns.

    Raises:
        ConfigError: the engine is unknown, or `results` out of range.
    """
    if engine.startswith(("http://", "https://")):
        return RetrieveTool(engine, results=results)
    if is_elsewhere(engine):
        return LiveSearchTool(engine, results=results)
    if engine not in ("auto", *ENGINES):
        raise unknown_name("engine", engine, ["auto", *ENGINES, *LIVE_ENGINES])
    return SearchTool(corpus, results=results, engine=engine)
