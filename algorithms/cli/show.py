"""`arpo show`: a run's trees and transcripts in the terminal."""

import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError
from arpo_envs.errors import unknown_name
from arpo_envs.screen import readable

from ..metrics import as_json
from ..tree import RolloutTree, Status
from .docstrings import with_help
from .drawing import drawn
from .progress import saying
from .stored import Stored, Wanted, document, row, stored
from .transcript import transcript

_MOST_STEPS, _MOST_PROMPTS = 20, 24
"""What an overview reads of a run, and of each of its steps, however large they are."""
_FORKS = Text("forks: paths added / tool results after which a fork was considered, – if none is recorded", style="dim")


@with_help
@dataclass(frozen=True)
class ShowConfig:
    """Look at a run's trees."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, or a file of trees."""
    step: int | None = None
    """List the prompts of a step, counted from 0 (default: an overview of all steps)."""
    prompt: int | None = None
    """Draw the tree of one prompt of the step, counted from 1."""
    task: str | None = None
    """Draw the tree of a task by its id: in the step, or the last one in the run."""
    leaf: int | None = None
    """Print the transcript of one leaf of the tree, counted from 1."""
    outcome: Literal["right", "wrong", "failed"] | None = None
    """Only leaves with this outcome; failed says nothing about the model (default: all)."""
    tool: str | None = None
    """Only leaves on whose path this tool ran (default: all)."""
    status: str | None = None
    """Only leaves that ended so, such as answered or truncated (default: all)."""
    json: bool = False
    """Print JSON."""


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo show`."""
    about = "Look at a run's trees: an overview, the prompts of a step, a tree, a transcript."
    config = tyro.cli(ShowConfig, args=list(arguments), prog="arpo show", description=about)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # where even a branch of the tree has no letter
    if config.status is not None and config.status not in list(Status):
        raise unknown_name("status", config.status, [str(status) for status in Status])
    console = Console(highlight=False)
    with _reading():
        trees = stored(config.run)
    wanted = Wanted(config.outcome, config.tool, config.status)
    number = _number(config, trees)
    if number is not None:
        _show_tree(console, trees.tree(number), wanted, config)
    elif config.leaf is not None:
        raise ConfigError("--leaf needs a tree: give --step and --prompt, or --task.")
    elif config.step is not None:
        _show_step(console, trees, wanted, config)
    else:
        _show_run(console, trees, wanted, config)
    return 0


def _number(config: ShowConfig, trees: Stored) -> int | None:
    """Returns the number of the tree that is asked for; None for a list.

    Raises:
        ConfigError: there is no such tree.
    """
    numbers = range(trees.count) if config.step is None else trees.of_step(config.step)
    if config.task is not None:
        with _reading() as say:
            for read, number in enumerate(reversed(numbers)):
                say(f"{read:,} of {len(numbers):,} trees read")
                if trees.tree(number).task == config.task:
                    return number
        raise ConfigError(f"No tree here is of the task {config.task!r}. Without --task, --step N lists the tasks of a step.")
    if config.prompt is None:
        return None
    if config.step is None:
        raise ConfigError("--prompt needs --step: prompts are counted within a step.")
    if not 1 <= config.prompt <= len(numbers):
        raise ConfigError(f"Step {config.step} has prompts 1 to {len(numbers)}; there is no prompt {config.prompt}.")
    return numbers[config.prompt - 1]


def _show_tree(console: Console, tree: RolloutTree, wanted: Wanted, config: ShowConfig) -> None:
    leaves = tree.leaves()
    kept = wanted.leaves(tree)
    if config.leaf is not None:
        if not 1 <= config.leaf <= len(leaves):
            raise ConfigError(f"This tree has leaves 1 to {len(leaves)}; there is no leaf {config.leaf}.")
        kept = [leaves[config.leaf - 1]]
    if config.json:
        _print_json(console, document(tree, kept))
    elif config.leaf is not None:
        console.print(transcript(tree, kept[0], f"{tree.task} · leaf {config.leaf}", numbers=True))
    else:
        step, task = tree.meta.get("step", 0), readable(tree.task, console.encoding)
        console.print(Text(f"step {step} · {task} · {_leaves(len(kept), len(leaves))}"))
        console.print(drawn(tree, kept) if kept else Text("No leaf is as asked for.", style="yellow"))


def _leaves(kept: int, all_of_them: int) -> str:
    return f"{all_of_them} leaves" if kept == all_of_them else f"{kept} of {all_of_them} leaves"


def _show_step(console: Console, trees: Stored, wanted: Wanted, config: ShowConfig) -> None:
    """Lists the prompts of a step, with those leaves that are wanted."""
    assert config.step is not None
    rows: list[dict[str, Any]] = []
    numbers = trees.of_step(config.step)
    with _reading() as say:
        for prompt, number in enumerate(numbers, 1):
            say(f"{prompt - 1:,} of {len(numbers):,} trees read")
            tree = trees.tree(number)
            if leaves := wanted.leaves(tree):
                rows.append({"prompt": prompt, **row(tree, leaves)})
    if config.json:
        _print_json(console, {"step": config.step, "prompts": rows})
        return
    table = _table("prompt")
    table.add_column("task", ratio=1, no_wrap=True, overflow="ellipsis")
    for one in rows:
        table.add_row(str(one["prompt"]), *_cells(one), Text(readable(one["task"], console.encoding)))
    console.print(table)
    console.print(_FORKS)
    console.print(
        Text(f"A tree:  arpo show {readable(str(config.run))} --step {config.step} --prompt 1", style="dim"), soft_wrap=True
    )


def _show_run(console: Console, trees: Stored, wanted: Wanted, config: ShowConfig) -> None:
    """Lists the steps of a run; of a long one some, of a large step some of its prompts."""
    rows: list[dict[str, Any]] = []
    first, last = trees.step_of(0), trees.step_of(-1)
    with _reading() as say:
        steps = sorted({trees.step_from(step) for step in _some(range(first, last + 1), _MOST_STEPS)})
        for step in steps:
            say(f"{len(rows)} of {len(steps)} steps read")
            numbers = trees.of_step(step)
            read = [trees.tree(number) for number in _some(numbers, _MOST_PROMPTS)]
            found = [row(tree, leaves) for tree in read if (leaves := wanted.leaves(tree))]
            rows.append({"step": step, "prompts": len(numbers), "read": len(read), **_together(found)})
    if config.json:
        _print_json(console, {"trees": trees.count, "first_step": first, "last_step": last, "steps": rows})
        return
    console.print(Text(f"{readable(str(trees.path), console.encoding)}: {trees.count} trees, steps {first} to {last}"))
    table = _table("step")
    table.add_column("ended", ratio=1)
    for one in rows:
        table.add_row(str(one["step"]), *_cells(one), Text(_statuses(one["statuses"])))
    console.print(table)
    console.print(_FORKS)
    if any(one["read"] < one["prompts"] for one in rows):
        console.print(Text(f"Of each step, {_MOST_PROMPTS} prompts were read.", style="dim"))
    console.print(Text(f"Its prompts:  arpo show {readable(str(config.run))} --step {first}", style="dim"), soft_wrap=True)


def _reading() -> AbstractContextManager[Callable[[str], None]]:
    """Says how far reading is, beside what is printed, which may be JSON for another program."""
    return saying(Console(stderr=True), "reading trees …")


def _together(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the rows of several trees as one."""
    names = ("leaves", "right", "forks", "considered")
    sums = {name: sum(one[name] for one in rows) for name in names}
    paid = sum(one["reward"] * one["leaves"] for one in rows)
    statuses = sum((Counter(one["statuses"]) for one in rows), Counter[str]())
    return {**sums, "reward": paid / sums["leaves"] if sums["leaves"] else None, "statuses": dict(statuses)}


def _some(numbers: range, most: int) -> list[int]:
    """Returns all numbers or, if they are too many, some at equal distances, the first and the last among them.

    >>> _some(range(3), 5), _some(range(10), 4)
    ([0, 1, 2], [0, 3, 6, 9])
    """
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[place * (len(numbers) - 1) // (most - 1)] for place in range(most)]


def _table(first: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="bold")
    for name in (first, "leaves", "right", "reward", "forks"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cells(one: Mapping[str, Any]) -> list[str]:
    reward = "–" if one["reward"] is None else f"{one['reward']:.2f}"
    return [str(one["leaves"]), str(one["right"]), reward, f"{one['forks']}/{one['considered'] or '–'}"]


def _statuses(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(counts.items()))


def _print_json(console: Console, value: Any) -> None:
    """Prints JSON in ASCII, so that nothing in it can steer a terminal."""
    console.out(json.dumps(as_json(value), indent=1), highlight=False)
