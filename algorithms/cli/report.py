"""`arpo report`: a run's curves and trees as one HTML file that needs no network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.text import Text

from arpo_envs import ConfigError
from arpo_envs.screen import readable

from .docstrings import with_help
from .gating import Gate, in_words
from .outputs import require_file
from .paged import Curves, Words
from .progress import saying
from .stored import Stored, stored
from .viewer import BYTES, Page, block, record, spread, summary, write_page

_MEGA = 1_000_000


@with_help
@dataclass(frozen=True)
class ReportConfig:
    """Write a run's page."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, or a file of trees."""
    output: Path
    """File to write, such as report.html."""
    megabytes: float = BYTES / _MEGA
    """Trees of at most so many megabytes; of a larger run some, spread evenly over it."""
    include_gated: bool = False
    """Also write questions of benchmarks that their authors ask not to pass on."""


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo report`."""
    config = tyro.cli(ReportConfig, args=list(arguments), prog="arpo report", description="Write a run's page: one HTML file.")
    require_file(config.output, "--output")
    folder = config.run if config.run.is_dir() else config.run.parent
    gate = Gate.of_folder(folder, include_gated=config.include_gated)
    console = Console(highlight=False)
    with saying(console, "reading trees …") as say:
        page = page_of(stored(config.run), folder, config.megabytes * _MEGA, gate, say)
    try:
        config.output.parent.mkdir(parents=True, exist_ok=True)
        write_page(page, config.output)
    except OSError as error:
        raise ConfigError(f"{config.output} cannot be written: {error.strerror}.") from error
    size = config.output.stat().st_size / _MEGA
    console.print(Text(f"{readable(str(config.output))}: {page.selection} ({size:.1f} MB)"), soft_wrap=True)
    if doubt := gate.doubt():
        console.print(Text(doubt, style="yellow"), soft_wrap=True)
    return 0


def page_of(trees: Stored, folder: Path, most: float, gate: Gate, say: Callable[[str], None]) -> Page:
    """Returns the page of a run, with as many of its trees as fit.

    Args:
        trees: the run's.
        folder: of the run.
        most: bytes of trees.
        gate: keeps trees back that may not be passed on.
        say: is told how far it is.

    Raises:
        ConfigError: none of them may be passed on.
    """
    found: dict[int, tuple[dict[str, Any], str]] = {}
    firsts: dict[int, int] = {}
    ids: set[int] = set()
    size, is_cut = 0, False
    for read, number in enumerate(spread(trees.count)):
        say(f"{read:,} of {trees.count:,} trees read, {size / _MEGA:.1f} MB")
        tree = trees.tree(number)
        if gate.keeps_back(tree):
            continue
        written = block(record(tree))
        size += len(written)
        if is_cut := size > most and bool(found):
            break
        step = int(tree.meta.get("step", 0))
        if step not in firsts:
            firsts[step] = trees.of_step(step).start
        found[number] = ({"step": step, "prompt": number - firsts[step] + 1, **summary(tree)}, written)
        ids.update(int(token) for node in tree.nodes for token in node.tokens)
    if not found:
        raise ConfigError(f"Nothing is left to write. {gate.left_out()}")
    chosen = [found[number] for number in sorted(found)]
    selection = in_words(trees.count) if len(chosen) == trees.count else f"{len(chosen)} of {in_words(trees.count)}"
    selection += ", spread evenly over the run: more would be too large" if is_cut else ""
    return Page(
        title=folder.resolve().name,
        metrics=Curves(folder / "metrics.jsonl").lines,
        prompts=[{"number": place, **line} for place, (line, _) in enumerate(chosen)],
        blocks=[written for _, written in chosen],
        vocabulary=Words(folder / "policy").of(ids),
        selection=f"{selection}. {gate.left_out()}".removesuffix(". "),
    )
