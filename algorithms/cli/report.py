"""`arpo report`: a run's curves and trees as one HTML file that needs no network."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.text import Text

from arpo_envs import ConfigError
from arpo_envs.screen import readable
from arpo_envs.tasks.benchmarks import BENCHMARKS

from .docstrings import with_help
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
    folder = config.run if config.run.is_dir() else config.run.parent
    if not config.include_gated and (name := gated(folder)) is not None:
        raise ConfigError(
            f"The questions of this run are from {name}, which must not be passed on, and a page holds them. "
            "For your own eyes: --include-gated."
        )
    page = _page(stored(config.run), folder, config.megabytes * _MEGA)
    try:
        write_page(page, config.output)
    except OSError as error:
        raise ConfigError(
            f"{config.output} cannot be written: {error.strerror}. Expected a file in a folder that exists."
        ) from error
    size = config.output.stat().st_size / _MEGA
    console = Console(highlight=False)
    console.print(
        Text(f"{readable(str(config.output))}: {len(page.blocks)} of {page.count} trees, {size:.1f} MB"), soft_wrap=True
    )
    return 0


def _page(trees: Stored, folder: Path, most: float) -> Page:
    """Reads as many trees as fit."""
    found: dict[int, tuple[dict[str, Any], str]] = {}
    firsts: dict[int, int] = {}
    ids: set[int] = set()
    size = 0
    for number in spread(trees.count):
        tree = trees.tree(number)
        written = block(record(tree))
        size += len(written)
        if size > most and found:
            break
        step = int(tree.meta.get("step", 0))
        if step not in firsts:
            firsts[step] = trees.of_step(step).start
        found[number] = ({"step": step, "prompt": number - firsts[step] + 1, **summary(tree)}, written)
        ids.update(int(token) for node in tree.nodes for token in node.tokens)
    chosen = [found[number] for number in sorted(found)]
    return Page(
        title=folder.resolve().name,
        metrics=_metrics(folder / "metrics.jsonl"),
        prompts=[line for line, _ in chosen],
        blocks=[written for _, written in chosen],
        vocabulary=_vocabulary(folder / "policy", ids),
        count=trees.count,
    )


def _metrics(file: Path) -> list[dict[str, Any]]:
    """Returns the metrics of all steps; a last line that a running run is still writing is left out."""
    if not file.is_file():
        return []
    written = file.read_text(encoding="utf-8")
    return [json.loads(line) for line in written[: written.rfind("\n") + 1].splitlines()]


def _vocabulary(folder: Path, ids: Iterable[int]) -> Mapping[int, str] | None:
    """Returns the text of each token; None where the run has no tokenizer, so that the page shows ids."""
    if not folder.is_dir():
        return None
    from ..models.loading import load_tokenizer

    try:
        tokenizer = load_tokenizer(folder)
    except ConfigError:
        return None
    return {one: str(tokenizer.decode([one], skip_special_tokens=False)) for one in sorted(ids)}


def gated(folder: Path) -> str | None:
    """Returns the title of the gated benchmark that a run's questions are from, as its configuration says."""
    file = folder / "config.json"
    if not file.is_file():
        return None
    config = json.loads(file.read_text(encoding="utf-8"))
    words = [word for name in ("env_args", "train_args", "eval_args", "args") for word in config.get(name) or ()]
    named = [str(word).partition("=")[2] for word in words if "tasks=" in str(word)]
    named += [str(config[name]) for name in ("benchmark", "data") if config.get(name)]
    parts = {part for name in named for part in re.split(r"[^a-z0-9]+", name.lower())}
    return next((one.title for one in BENCHMARKS.values() if one.gated and one.name in parts), None)
