"""`arpo serve-search`: a retrieval server of Search-R1's protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from arpo_envs import ConfigError
from arpo_envs.tasks.documents import FileCorpus
from arpo_envs.tasks.world import Corpus, load_world
from arpo_envs.tools.search import MAX_RESULTS, chosen_engine, index_of
from arpo_envs.tools.search.serve import RetrieveServer


@dataclass(frozen=True)
class ServeSearchConfig:
    """Serve documents to trainers that search over HTTP: POST /retrieve, the protocol of Search-R1."""

    corpus: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: the built-in world)")] = None
    """JSON Lines file with a "title" and a "text" on each line, or Parquet file with these columns."""
    host: str = "127.0.0.1"
    """Address to listen at; anyone who can reach it may search."""
    port: int = 8000
    """Port to listen at; 0 for any free one."""
    topk: int = 3
    """Documents per query, for requests that do not say."""
    engine: str = "auto"
    """tantivy, sqlite, or auto for the first of them that is installed; or dense:PACKAGE.MODULE:OBJECT, a model of yours."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if not 1 <= self.topk <= MAX_RESULTS:
            raise ConfigError(f"--topk must lie between 1 and {MAX_RESULTS}, got {self.topk}.")
        if not 0 <= self.port < 1 << 16:
            raise ConfigError(f"--port must lie between 0 and 65535, got {self.port}.")


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo serve-search` until it is interrupted."""
    config = tyro.cli(ServeSearchConfig, args=list(arguments), prog="arpo serve-search")
    console = Console()
    with server(config) as serving:
        console.print(f"Serving {len(serving.index.documents):,} documents at [bold]{serving.url}[/] (stop with Ctrl-C)")
        console.print(
            f"Use them here: gym.make('ARPO/Search-v0', engine='{serving.url}')", style="dim", highlight=False, soft_wrap=True
        )
        serving.serve_forever()
    return 0


def server(config: ServeSearchConfig) -> RetrieveServer:
    """Returns the server, which is listening and not answering yet."""
    corpus: Corpus = FileCorpus(config.corpus) if config.corpus is not None else load_world()
    return RetrieveServer(index_of(corpus, chosen_engine(config.engine)), host=config.host, port=config.port, topk=config.topk)
