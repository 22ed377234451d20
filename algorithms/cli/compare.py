"""`arpo compare`: several algorithms on the same tasks, seeds and starts, at equal executed tool calls, and what that shows."""

import contextlib
import json
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape

from arpo_envs import ConfigError

from ..durable import write_text
from ..metrics import as_json
from .alone import taken
from .arms import Arm, arms_of
from .compare_plot import plot
from .compare_progress import CompareProgress
from .compare_results import Comparison, Trained
from .compare_settings import common, settled
from .compare_words import markdown, too_few
from .config import OPTIONS, TrainConfig
from .docstrings import with_help
from .environments import folder_of
from .flat import parsed
from .groups import GROUPS
from .outputs import require_folder
from .runs import Run, train_all

_OURS = (
    *("algorithm", "algorithm-args", "seed", "env", "steps", "budget-calls", "cold-start", "threads"),
    *("output", "resume", "dry-run"),
)
"""Options of `arpo train` that a comparison gives itself."""
_PATIENCE = 60.0
"""Seconds that runs of an earlier call have to save and end."""


@with_help
@dataclass(frozen=True)
class CompareConfig:
    """Train several algorithms at equal cost, and compare them."""

    arms: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="ARM ARM [ARM ...]", help_behavior_hint="(required)"),
    ]
    """At least two algorithms, each with options if need be, as in arpo:alpha=0.3,rollouts=8. The first one is compared with
    each of the others."""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    """Seeds. With the same seed, all arms have the same questions, starts and held-out questions. More can be added later."""
    envs: tuple[str, ...] = ("ARPO/SearchMini-v0",)
    """Environments; each arm is trained on each of them."""
    budget_calls: int = 20_000
    """Tool calls of each run, replayed ones included, as for `arpo train`."""
    steps: int = 1000
    """Maximum steps of a run, in case a policy hardly calls any tools."""
    cold_start: Literal["auto", "fresh"] = "auto"
    """Where the embedded policy's first weights come from, as in `arpo train`; fresh makes a start for each seed, which all
    arms share."""
    threads: int = 1
    """PyTorch CPU threads of each run."""
    parallel: int = 1
    """Runs at the same time. Seconds are compared only if this is always 1."""
    output: Path = Path("runs/compare")
    """Folder of the runs and the result; finished runs are kept, unfinished ones are continued."""
    train: tuple[str, ...] = ()
    """Everything after this option goes to `arpo train`, so it must come last, e.g. --train --prompts 12."""

    def __post_init__(self) -> None:
        """Refuses what cannot be compared before the work starts."""
        for name in ("budget_calls", "steps", "threads", "parallel"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("seeds", "envs"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"--{name} needs at least one value, and each only once.")
        given = [word.partition("=")[0].removeprefix("--").replace("_", "-") for word in self.train if word.startswith("--")]
        if twice := [name for name in given if name in _OURS]:
            raise ConfigError(
                f"--{twice[0]} cannot follow --train: the options of an arm, as in arpo:alpha=0.3, and what all runs have in "
                "common, such as --envs and --seeds, come before it."
            )


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo compare`."""
    words = list(arguments)
    own = words.index("--train") if "--train" in words else len(words)  # tyro would take what follows as its own options
    about = "Train several algorithms on the same tasks and seeds at equal executed tool calls, and compare them."
    config = tyro.cli(CompareConfig, args=words[:own], prog="arpo compare", description=about)
    config = replace(config, train=(*config.train, *words[own + 1 :]))
    require_folder(config.output)
    arms, console = arms_of(config.arms), Console()
    runs = runs_of(config, arms)
    if warning := too_few(len(arms) - 1, len(config.seeds) * len(config.envs)):
        console.print(f"[yellow]{warning}[/]", highlight=False)
    config.output.mkdir(parents=True, exist_ok=True)
    command = f"arpo compare {shlex.join(arguments)}"
    with _alone(config.output, console) as locked:
        was_alone, kept = _settled(config, any(not run.is_finished for run in runs))
        if kept:
            console.print(f"Continued as it was begun: {shlex.join(kept)}", highlight=False)
            runs = runs_of(replace(config, train=(*config.train, *kept)), arms)
        starts = list(dict.fromkeys(run.after for run in runs if run.after is not None))
        with CompareProgress(console, runs, config.budget_calls) as progress:
            train_all([*starts, *runs], config.parallel, command=command, locked=locked, look=progress.look, done=progress.done)
        labels = [(env, arm.name, seed) for env in config.envs for seed in config.seeds for arm in arms]
        trained = [Trained.read(run.folder, *label) for run, label in zip(runs, labels, strict=True)]
        found = Comparison(trained, [arm.name for arm in arms], config.budget_calls, was_alone)
        _write(config.output, found)
    console.print(escape(markdown(found)), highlight=False, soft_wrap=True)
    console.print(f"\n{config.output}/: comparison.md, comparison.json, comparison.png", highlight=False)
    return 0


def runs_of(config: CompareConfig, arms: Sequence[Arm]) -> list[Run]:
    """Returns the runs of a comparison: by environment, then by seed, then by arm, so that what is compared ends together.

    Raises:
        ConfigError: the options of a run do not fit together.
    """
    found = []
    for env in config.envs:
        place = config.output / folder_of(env)
        for seed in config.seeds:
            words = [*config.train, "--env", env, "--seed", str(seed), "--threads", str(config.threads)]
            start, first = _start(config, words, place / f"start-seed{seed}"), list[str]()
            if start is not None:  # a shared one, so that the arms differ in nothing else
                first = ["--policy", str(start.folder / "cold_start")]
            budget = ["--budget-calls", str(config.budget_calls), "--steps", str(config.steps)]
            for arm in arms:
                every = [*words, *arm.words, *budget]
                _parsed(every).make_algorithm()
                found.append(Run(place / f"{arm.folder}-seed{seed}", (*every, *first), start))
    return found


def _start(config: CompareConfig, words: Sequence[str], folder: Path) -> Run | None:
    """Returns a run that makes the start of a seed and takes no step; None if the policy is not made for the run."""
    if not _parsed(words).source.is_made:
        return None
    return Run(folder, (*words, "--cold-start", config.cold_start, "--steps", "0", "--eval-questions", "1"))


def _parsed(words: Sequence[str]) -> TrainConfig:
    return TrainConfig.of(parsed(words, OPTIONS, GROUPS, prog="arpo train", description="")).resolved()


def _settled(config: CompareConfig, is_unfinished: bool) -> tuple[bool, list[str]]:
    settings = {name: getattr(config, name) for name in ("budget_calls", "steps", "cold_start", "threads")}
    is_alone = config.parallel == 1 or not is_unfinished
    return settled(config.output, settings | {"train": list(config.train)}, common(_parsed(config.train)), is_alone)


def _write(folder: Path, found: Comparison) -> None:
    document = json.dumps(as_json(found.document()), indent=1, allow_nan=False)
    write_text(folder / "comparison.json", document + "\n")
    write_text(folder / "comparison.md", markdown(found) + "\n")
    plot(folder / "comparison.png", found)


@contextlib.contextmanager
def _alone(folder: Path, console: Console) -> Iterator[int]:
    """Keeps others out of a folder, and waits for runs that a killed comparison left behind; yields the lock's descriptor.

    The processes of the runs hold it open, too: it is free when the last of them has ended.

    Raises:
        ConfigError: somebody else is at work.
    """
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        deadline, has_told = time.monotonic() + _PATIENCE, False
        while not taken(lock):
            if time.monotonic() > deadline:
                raise ConfigError(f"Another `arpo compare`, or a run that it left behind, is at work in {folder}: wait for it.")
            if not has_told:
                console.print(f"Waiting for runs in {escape(str(folder))} that are still at work.", highlight=False)
            has_told = True
            time.sleep(0.1)
        yield lock
    finally:
        os.close(lock)
