"""`arpo algorithms`: lists the algorithms and where they come from, or explains one and its options."""

import inspect
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError, Plugin

from ..algorithm import Algorithm
from ..options import Finished, Recipe, described, required
from ..recipes import ALGORITHMS, make, recipe
from .docstrings import argument_docs, first_sentence, source_note

_USUAL = ("rollouts", "roots", "probe")
"""Options of an algorithm that are also options of `arpo train`."""


@dataclass(frozen=True)
class AlgorithmsConfig:
    """List the algorithms, or explain one."""

    algorithm: Annotated[
        str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]", help_behavior_hint="(default: all)")
    ] = None
    """Algorithm to explain, by name or as package.module:object; without one, they are listed."""


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
    """Returns the table of all algorithms: first those without forks, then those with, then those of other packages."""
    table = Table(title="Algorithms", title_justify="left", show_lines=True)
    table.add_column("name", overflow="fold")
    table.add_column("what it is", overflow="fold")
    everything = {name: make(name) for name in ALGORITHMS.built_in}
    for name, algorithm in sorted(everything.items(), key=lambda pair: (pair[1].branching.forks, pair[0])):
        about = Text(summary(recipe(name)))
        about.append(f"\n{_shape(algorithm)} · {algorithm.source}", style="dim")
        table.add_row(Text(name, style="bold cyan"), about)
    for plugin in ALGORITHMS.plugins():
        table.add_row(Text(plugin.name, style="bold magenta"), _offered(plugin))
    return table


def _offered(plugin: Plugin) -> Text:
    """Returns a summary of an algorithm from another package; a broken one does not hide the others."""
    origin = Text(f"\nfrom {plugin.package}, {plugin.reference}", style="dim")
    taken = plugin.name in ALGORITHMS.built_in
    name = plugin.reference if taken else plugin.name
    try:
        function = recipe(name)
        needed = [option for option, parameter in inspect.signature(function).parameters.items() if required(parameter)]
        made = None if needed else make(name)
    except Exception as error:  # noqa: BLE001  # code from another package may fail in any way
        return Text("Not usable: ", style="red").append(str(error), style="default").append(origin)
    facts = f"needs a value for {', '.join(needed)}" if made is None else f"{_shape(made)} · {made.source}"
    about = Text(summary(function)).append(f"\n{facts}", style="dim").append(origin)
    return about.append(f"\nThe name is taken: use {plugin.reference}", style="yellow") if taken else about


def explained(name: str) -> Group:
    """Returns everything about one algorithm: what it is, its options with their defaults, its source.

    Raises:
        ConfigError: no algorithm has that name.
    """
    function = recipe(name)
    known = inspect.signature(function).parameters
    needed = [option for option, parameter in known.items() if required(parameter)]
    try:
        facts = make(name)
    except ConfigError:
        if not needed:
            raise
        facts = None
    meanings = argument_docs(function.__doc__)
    table = Table(title="Options", title_justify="left")
    for heading in ("option", "default", "takes", "meaning"):
        table.add_column(heading, overflow="fold")
    for option, parameter in known.items():
        default = "needed" if option in needed else str(parameter.default)
        takes = Text(described(parameter.annotation), style="dim")
        table.add_row(Text(option, style="bold"), default, takes, Text(meanings.get(option, "")))
    source = source_note(function.__doc__)
    return Group(
        Text.assemble((name, "bold cyan"), f"  {summary(function)}."),
        *([] if facts is None else [Text(f"{facts.source}\n", style="dim"), Text(_facts(facts) + "\n")]),
        *([table] if known else [Text("It has no options.")]),
        Text(f"\nSource: {source}\n" if source else "", style="dim"),
        Text(_usage(name, known), style="dim"),
    )


def _usage(name: str, known: Mapping[str, inspect.Parameter]) -> str:
    """Returns how to train with an algorithm, with one of its options as an example."""
    options = [option for option in known if option not in _USUAL and not required(known[option])]
    example = next((option for option in options if option not in ("siblings", "clip", "kl")), next(iter(options), None))
    if example is None:
        return f'Train with it:  arpo train --algorithm {name}\nIn Python:      algorithms.make("{name}")'
    value = known[example].default
    word = shlex.quote(f"{example}={str(value).replace(' ', '')}")
    return (
        f"Train with it:  arpo train --algorithm {name} --algorithm-args {word}\n"
        f'In Python:      algorithms.make("{name}", {example}={value!r})'
    )


def summary(function: Recipe) -> str:
    """Returns the first sentence of a recipe's docstring, without the "Returns" it begins with."""
    if isinstance(function, Finished):
        return str(function.made.name)
    line = first_sentence(function.__doc__).removeprefix("Returns ")
    return line[:1].upper() + line[1:]


def _shape(algorithm: Algorithm) -> str:
    """Returns the number of rollouts per prompt, and how many of them are roots."""
    roots = algorithm.branching.roots
    many = f"{algorithm.rollouts} rollout{'s' * (algorithm.rollouts > 1)}"
    return many if roots is None else f"{many}, {roots} root{'s' * (roots > 1)}"


def _facts(algorithm: Algorithm) -> str:
    """Returns the main facts about an algorithm in one line."""
    mean = {"token": "mean over all tokens", "sequence": "mean over paths of each path's mean"}
    scale = algorithm.aggregation
    whole = mean.get(str(scale), f"sum over each path, divided by {scale} and the number of paths")
    facts = [_shape(algorithm) + " per prompt", f"loss: {whole}"]
    facts += [f"needs {need}" for need in sorted(algorithm.needs)]
    if algorithm.keep is not None:
        kept = getattr(algorithm.keep, "__name__", type(algorithm.keep).__name__)
        facts.append(f"trains on trees with {kept.replace('_', ' ')}")
    return " · ".join(facts)
