"""The tool `search`, whatever ranks the documents: an index in this process, a retrieval server, an engine on the web.

`SearchTool` searches a corpus with `index.py`: by words (`words.py`, with the engines of `engines.py`), or by vectors of a
model of the user's (`dense.py`, kept by `vectors.py`, ranked by `products.py`). `RetrieveTool` asks a server of Search-R1's
protocol, which `serve.py` speaks as well; `LiveSearchTool` asks any engine that is described by data. `make_search` chooses
among them by a name, a path or a URL.
"""

from pathlib import Path

from ...errors import unknown_name
from ...tasks.world import Corpus
from .. import Tool
from .dense import NAMED, DenseEngine, is_dense
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
    "DenseEngine",
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


def is_elsewhere(engine: str | DenseEngine) -> bool:
    """Whether an engine has documents of its own: a URL, a name in `LIVE_ENGINES`, or a JSON file that describes one."""
    if isinstance(engine, DenseEngine) or is_dense(engine):
        return False
    return engine.startswith(("http://", "https://")) or engine in LIVE_ENGINES or Path(engine).suffix.lower() == ".json"


def make_search(engine: str | DenseEngine, corpus: Corpus, *, results: int = 3) -> Tool:
    """Returns the tool `search`.

    Args:
        engine: "auto", "tantivy" or "sqlite" for an index of the corpus's words; "dense:package.module:object" or a
            `DenseEngine` for one of vectors; the URL of a Search-R1 server; a name in `LIVE_ENGINES`; or the path of a JSON
            file that describes an engine.
        corpus: what an index finds; the others have documents of their own.
        results: documents that one search returns.

    Raises:
        ConfigError: the engine is unknown, or `results` out of range.
    """
    if isinstance(engine, DenseEngine) or is_dense(engine):
        return SearchTool(corpus, results=results, engine=engine)
    if engine.startswith(("http://", "https://")):
        return RetrieveTool(engine, results=results)
    if is_elsewhere(engine):
        return LiveSearchTool(engine, results=results)
    if engine not in ("auto", *ENGINES):
        raise unknown_name("engine", engine, ["auto", *ENGINES, NAMED, *LIVE_ENGINES])
    return SearchTool(corpus, results=results, engine=engine)
