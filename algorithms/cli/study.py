"""`arpo study`: the main run and its controls over several seeds, and the table of their results in the README."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from arpo_envs import ConfigError

from .docstrings import with_help
from .outputs import require_file, require_folder
from .runs import Run, tied

BEGIN, END = "<!-- study:begin -->", "<!-- study:end -->"

ARMS: Mapping[str, tuple[str, ...]] = {
    "arpo": ("--algorithm", "arpo"),
    "grpo": ("--algorithm", "grpo"),
    "random_branching": ("--algorithm", "random_branching"),
    "arpo-shuffled": ("--algorithm", "arpo", "--shuffle-rewards"),
}
"""The runs of one seed; all start from the same cold start."""


@with_help
@dataclass(frozen=True)
class StudyConfig:
    """Repeat the main run over seeds and controls, and write the table."""

    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds; each stands for one set of runs."""
    output: Path = Path("runs/study")
    """Folder of the runs; finished ones are kept, unfinished ones are resumed."""
    train: tuple[str, ...] = ()
    """Everything after this option goes to `arpo train`, so it must come last, e.g. --train --steps 40."""
    readme: Path | None = Path("README.md")
    """Page to write the table into, between two comments in it; None prints the table only."""
    results: Path | None = Path("docs/measurements/study.json")
    """File for all summaries; None leaves them in the folders of their runs only."""

    def __post_init__(self) -> None:
        """Refuses an empty study before the work starts."""
        if not self.seeds:
            raise ConfigError("--seeds is empty: give at least one, e.g. --seeds 1 2 3.")


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo study`."""
    words = list(arguments)
    own = words.index("--train") if "--train" in words else len(words)  # tyro would take what follows as its own options
    config = tyro.cli(StudyConfig, args=words[:own], prog="arpo study", description="Repeat the main run with its controls.")
    config = replace(config, train=(*config.train, *words[own + 1 :]))
    require_folder(config.output)  # finds mistakes before the hours of training
    require_file(config.results, "--results")
    if config.readme is not None:
        _page(config.readme)
        require_file(config.readme, "--readme")
    console = Console()
    summaries = []
    for seed in config.seeds:
        for arm in ARMS:
            run = config.output / f"{arm}-seed{seed}"
            if not (run / "summary.json").is_file():
                _train(config, run, arm, seed, console)
            summaries.append(json.loads((run / "summary.json").read_text(encoding="utf-8")))
    text = markdown(summaries)
    console.print(text, highlight=False)
    if config.results is not None:
        config.results.parent.mkdir(parents=True, exist_ok=True)
        config.results.write_text(json.dumps(summaries, indent=1) + "\n", encoding="utf-8")
    if config.readme is not None:
        config.readme.write_text(insert(_page(config.readme), text), encoding="utf-8")
    return 0


def _page(file: Path) -> str:
    """Returns the page that the table is written into.

    Raises:
        ConfigError: it cannot be read, or has no place for the table.
    """
    ways = "Run `arpo study` in the checkout, or give another page with --readme; --readme None prints the table only."
    try:
        page = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"The table is written into a page, but {file} cannot be read ({error.strerror}). {ways}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The table is written into a page, but {file} is not UTF-8. {ways}") from error
    if END not in page.partition(BEGIN)[2]:
        raise ConfigError(f"The table is written between two comments: {file} needs a line {BEGIN} and after it a line {END}.")
    return page


def _train(config: StudyConfig, folder: Path, arm: str, seed: int, console: Console) -> None:
    """Runs one training in a process of its own; all runs of a seed share the cold start of the first one."""
    words = [*ARMS[arm], "--seed", str(seed), *config.train]
    shared = config.output / f"{next(iter(ARMS))}-seed{seed}" / "cold_start"
    if "--policy" not in config.train:  # each seed has its own start, which its runs share
        words += ["--policy", str(shared)] if shared.is_dir() else ["--cold-start", "fresh"]
    run = Run(folder, tuple(words))
    console.rule(f"{arm}, seed {seed}")
    status = subprocess.run(tied(run.words_to_finish()), check=False).returncode
    run.require_finished(status, "arpo study")


def markdown(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Returns the table of a study: means over seeds, with the lowest and the highest value.

    Args:
        summaries: as `report.summarise` returns them, several seeds per algorithm.
    """
    lines = [
        "| run | sampled before | after | greedy before | after | without tools | executed calls per prompt | inherited |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in dict.fromkeys(summary["algorithm"] for summary in summaries):
        rows = [summary for summary in summaries if summary["algorithm"] == arm]
        cells = [
            *(_spread(rows, f"success_{when}_{how}") for how in ("sampled", "greedy") for when in ("before", "after")),
            _spread(rows, "success_closed_book"),
            f"{np.mean([row['executed_tool_calls_per_prompt'] for row in rows]):.1f}",
            f"{np.mean([row['inherited_tool_calls_per_prompt'] for row in rows]):.1f}",
        ]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    seeds = sorted({summary["seed"] for summary in summaries})
    majority = summaries[0]["success_majority"]
    best = "" if majority is None else f" Always giving the same answer reaches at most {majority:.3f}."
    lines.append("")
    lines.append(f"Held-out success, mean over seeds {', '.join(map(str, seeds))} (lowest – highest).{best}")
    return "\n".join(lines)


def _spread(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    values = [row[key] for row in rows if row[key] is not None]
    if not values:
        return "–"
    return f"{np.mean(values):.3f}" + (f" ({min(values):.3f} – {max(values):.3f})" if len(values) > 1 else "")


def insert(document: str, text: str) -> str:
    """Returns a document with `text` between the two comments of the study."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"
