"""`arpo view`: a run's page in the browser, from a server on this machine; a run that is still written updates in it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Annotated

import tyro
from rich.console import Console
from rich.text import Text

from arpo_envs import ConfigError
from arpo_envs.screen import readable

from .docstrings import with_help
from .stored import file_of_trees, stored
from .viewer import PageServer
from .watched import Watched

_PAUSE = 1.0
"""Seconds between two looks at the run's files."""
_SLICE = 0.2
"""Seconds for which trees are read between two looks."""


@with_help
@dataclass(frozen=True)
class ViewConfig:
    """Look at a run in the browser."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, which may still be running, or a file of trees."""
    port: int = 8765
    """Port to listen on; 0 for any free one."""
    include_gated: bool = False
    """Also show questions of benchmarks whose authors ask that they not be passed on."""

    def __post_init__(self) -> None:
        """Checks the port."""
        if not 0 <= self.port < 1 << 16:
            raise ConfigError(f"--port must lie between 0 and 65535, got {self.port}.")


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo view` until it is interrupted."""
    config = tyro.cli(ViewConfig, args=list(arguments), prog="arpo view", description="Look at a run in the browser.")
    console = Console(highlight=False)
    with serving(config) as server, suppress(KeyboardInterrupt):
        where = Text(f"{readable(str(config.run), console.encoding)} is shown at ")
        console.print(where.append(server.url, style="bold").append(" (stop with Ctrl-C)"), soft_wrap=True)
        if doubt := server.run.doubt():
            console.print(Text(doubt, style="yellow"), soft_wrap=True)
        server.serve_forever()
    return 0


@contextmanager
def serving(config: ViewConfig) -> Iterator[PageServer[Watched]]:
    """Gives the server, which is listening and not answering yet; meanwhile the run's files are watched.

    Raises:
        ConfigError: there is no such run, or nothing can listen at the port.
    """
    if not (config.run / "config.json").is_file() and file_of_trees(config.run) is None:
        stored(config.run)  # says what was expected
    run = Watched(config.run, include_gated=config.include_gated)
    with PageServer(run, config.port) as server:
        run.look(_SLICE)
        run.words.of(())  # a tokenizer takes seconds to load, which nobody should wait for who opens a tree
        stop = Event()
        watching = Thread(target=_watch, args=(run, stop))
        watching.start()
        try:
            yield server
        finally:
            stop.set()
            watching.join()


def _watch(run: Watched, stop: Event) -> None:
    """Looks at a run again and again; what cannot be read now may be readable the next time."""
    is_more = True
    while not stop.wait(0.0 if is_more else _PAUSE):
        try:
            is_more = run.look(_SLICE)
        except (ConfigError, OSError):
            is_more = False
