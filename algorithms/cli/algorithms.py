"""`arpo algorithms`: which algorithms there are, where they come from, and what one of them takes."""

import inspect
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from ..algorithm import Algorithm
from ..recipes import make, names, recipe
from ..recipes.options import Recipe, described
from .docstrings import argument_docs, first_sentence, source_note

_USUAL = ("rollouts", "roots", "probe")
"""Options of an algorithm that are options of `arpo train`, too."""


@dataclass(frozen=True)
class AlgorithmsConfig:
    """List the algorithms, or explain one."""

    algorithm: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None
    """Algorithm to explain; all are listed without it."""


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo algorithms`."""
    about = "List the algorithms, or explain one."
    config = tyro.cli(AlgorithmsConfig, args=list(arguments), prog="arpo algorithms", description=about)
    console = Console()
    if config.algorithm is not None:
        console.print(explained(config.algorithm), highlight=False)
        return 0
    console.print(listed(), highlight=False)
    hint = "More about one:  arpo algorithms arpo\nTrain with it:   arpo train --algorithm arpo"
    console.print(Text(hint, style="dim"))
    return 0


def listed() -> Table:
    """Returns the table of all algorithms, those that grow trees behind those that do not."""
    table = Table(title="Algorithms", title_justify="left", show_lines=True)
    table.add_column("name", overflow="fold")
    table.add_column("what it is", overflow="fold")
    everything = {name: make(name) for name in names()}
    for name, algorithm in sorted(everything.items(), key=lambda pair: (pair[1].branching.forks, pair[0])):
        about = Text(summary(recipe(name)))
        about.append(f"\n{_shape(algorithm)} · {algorithm.source}", style="dim")
        table.add_row(Text(name, style="bold cyan"), about)
    return table


def explained(name: str) -> Group:
    """Returns everything about one algorithm: what it is, its options with their defaults, its source.

    Raises:
        ConfigError: no algorithm has that name.
    """
    function = recipe(name)
    algorithm = make(name)
    meanings = argument_docs(function.__doc__)
    table = Table(title="Options", title_justify="left")
    for heading in ("option", "default", "takes", "meaning"):
        table.add_column(heading, overflow="fold")
    for option, parameter in inspect.signature(function).parameters.items():
        takes = Text(described(parameter.annotation), style="dim")
        table.add_row(Text(option, style="bold"), str(parameter.default), takes, Text(meanings.get(option, "")))
    options = [option for option in inspect.signature(function).parameters if option not in _USUAL]
    example = next((option for option in options if option not in ("siblings", "clip", "kl")), options[0])
    value = inspect.signature(function).parameters[example].default
    word = shlex.quote(f"{example}={str(value).replace(' ', '')}")
    return Group(
        Text.assemble((name, "bold cyan"), f"  {summary(function)}."),
        Text(f"{algorithm.source}\n", style="dim"),
        Text(_facts(algorithm) + "\n"),
        table,
        Text(f"\nSource: {source_note(function.__doc__)}\n", style="dim"),
        Text(
            f"Train with it:  arpo train --algorithm {name} --algorithm-args {word}\n"
            f'In Python:      algorithms.make("{name}", {example}={value!r})',
            style="dim",
        ),
    )


def summary(function: Recipe) -> str:
    """Returns what a recipe's first line says, without the verb that every function's has."""
    line = first_sentence(function.__doc__).removeprefix("Returns ")
    return line[:1].upper() + line[1:]


def _shape(algorithm: Algorithm) -> str:
    """Returns how many rollouts a prompt has, and how many of them start there."""
    roots = algorithm.branching.roots
    many = f"{algorithm.rollouts} rollout{'s' * (algorithm.rollouts > 1)}"
    return many if roots is None else f"{many}, {roots} root{'s' * (roots > 1)}"


def _facts(algorithm: Algorithm) -> str:
    """Returns what else sets an algorithm apart, in one line."""
    mean = {"token": "mean over all tokens", "sequence": "mean over paths of each path's mean"}
    whole = mean.get(str(algorithm.aggregation), f"sum over each path, divided by {algorithm.aggregation} and the paths")
    facts = [_shape(algorithm) + " per prompt", f"loss: {whole}"]
    facts += [f"needs {need}" for need in sorted(algorithm.needs)]
    if algorithm.keep is not None:
        facts.append(f"trains on trees with {algorithm.keep.__name__.replace('_', ' ')}")
    return " · ".join(facts)
