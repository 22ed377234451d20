"""`arpo envs`: lists the environments, or explains one and its arguments."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium as gym
import tyro
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import arpo_envs
from arpo_envs import ArpoError, members
from arpo_envs.envs.named import ENVS

from ..rollout import TextEnv
from .baselines import REMEMBERED, baselines
from .docstrings import argument_docs, first_sentence
from .environments import env_maker
from .mixtures import MIXTURE, weights_in

_EXAMPLE_SEED = 7
_UNKNOWN = {
    "expert": "no demonstrator knows all of these tasks",
    "closed book": "not all of these tasks name their answers",
    "majority": "not all of these tasks name their answers",
}
"""Why a baseline is not known."""


@dataclass(frozen=True)
class EnvsConfig:
    """List the environments, or explain one."""

    env: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[ENV]", help_behavior_hint="(default: all)")] = None
    """Environment to explain; without one, they are listed."""


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo envs`."""
    config = tyro.cli(EnvsConfig, args=list(arguments), prog="arpo envs", description="List the environments, or explain one.")
    console = Console()
    if config.env is not None:
        console.print(explained(config.env), highlight=False)
        with console.status("asking held-out questions"):
            found = scored(config.env)
        console.print(found, highlight=False)
        made_as = config.env if weights_in(config.env) is None else MIXTURE
        console.print(Text(f'Play it:    arpo play {config.env}\nIn Python:  gym.make("{made_as}", …)', style="dim"))
        return 0
    console.print(listed(), highlight=False)
    console.print(Text("More about one:  arpo envs ARPO/Search-v0\nPlay it:         arpo play ARPO/Search-v0", style="dim"))
    return 0


def listed() -> Table:
    """Returns the table of this suite's environments, and of those that installed packages offer."""
    table = Table(title="Environments", title_justify="left", show_lines=True)
    for heading in ("id", "what it is", "tools", "fork level"):
        table.add_column(heading, overflow="fold", ratio=3 if heading == "what it is" else None)
    packages = {plugin.name: plugin.package for plugin in ENVS.plugins() if plugin.name not in ENVS.built_in}
    for name in [*sorted(ENVS.built_in), *packages]:
        try:
            env = env_maker(name, {})()
        except (ArpoError, ImportError) as error:  # one whose extra is not installed must not hide the others
            table.add_row(Text(name, style="dim"), Text(f"Not usable here: {error}", style="dim"), "", "")
            continue
        about = Text(first_sentence(type(env.unwrapped).__doc__))
        if name in packages:
            about.append(f"\nfrom {packages[name]}", style="dim")
        if preset := gym.registry[name].kwargs:
            about.append("\n" + ", ".join(f"{key}={_short(value)}" for key, value in preset.items()), style="dim")
        specs = members.TOOL_SPECS.through(env)
        tools = Text(", ".join(spec.name for spec in specs))
        table.add_row(Text(name, style="bold cyan"), about, tools, arpo_envs.fork_level(env).value)
        env.close()
    return table


def explained(name: str) -> Group:
    """Returns everything about one environment: tools, arguments, an example question.

    Raises:
        ConfigError: no environment has that id, or it is not a text environment.
    """
    env = env_maker(name, {})()
    try:
        return _explained(name, env)
    finally:
        env.close()


def _explained(name: str, env: TextEnv) -> Group:
    kind = type(env.unwrapped)
    spec = env.spec
    specs = members.TOOL_SPECS.through(env)  # before an episode, a mixture has those of all its environments
    question, _ = env.reset(seed=_EXAMPLE_SEED)
    tools = Table(title="Tools", title_justify="left", show_header=False, box=None, padding=(0, 2))
    for tool in specs:
        parameters = ", ".join(tool.parameters.get("properties", {}))
        tools.add_row(Text(f"{tool.name}({parameters})", style="bold"), Text(tool.description))
    table = Table(title="Arguments", title_justify="left")
    for heading in ("argument", "default", "meaning"):
        table.add_column(heading, overflow="fold")
    for argument, default, meaning in _arguments(kind, spec.kwargs if spec is not None else {}):
        table.add_row(Text(argument, style="bold"), Text(default), Text(meaning))
    task = members.TASK.through(env)
    answer = Text(f"\n→ {task.answers[0]}", style="green") if task is not None and task.answers else Text("")
    return Group(
        Text.assemble((name, "bold cyan"), f"  {first_sentence(kind.__doc__)}."),
        Text(f"Fork level: {arpo_envs.fork_level(env).value}\n", style="dim"),
        tools,
        Text(""),
        table,
        Panel(Text(str(question)) + answer, title=f"An example question (seed {_EXAMPLE_SEED})", title_align="left"),
    )


def scored(name: str) -> Table | Text:
    """Returns what held-out questions earn before anything is learned, or why that cannot be found out here.

    Raises:
        ConfigError: no environment has that id.
    """
    try:
        found = baselines(name)
    except ArpoError as error:  # the rest of the page is right without it
        return Text(f"Baselines cannot be measured here: {error}\n", style="yellow")
    table = Table(title=f"Right answers to {found.questions} held-out questions", title_justify="left", show_header=False)
    rows = {
        "expert": (found.expert, "a demonstrator who calls the tools"),
        "closed book": (found.closed_book, f"without tools: what the most similar of {REMEMBERED} training questions has"),
        "majority": (found.majority, "always the best single answer"),
    }
    for row, (share, meaning) in rows.items():
        if share is None:
            table.add_row(Text(row, style="bold"), "–", f"unknown: {_UNKNOWN[row]}")
        else:
            table.add_row(Text(row, style="bold"), f"{share:.3f}", meaning)
    return table


def _arguments(kind: type, preset: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields (name, default, meaning) of each argument of the class; the id's own defaults replace those of the class."""
    meanings = argument_docs(kind.__doc__)
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        value = preset.get(name, parameter.default)
        yield name, "required" if value is parameter.empty else _short(value), meanings.get(name, "")


def _short(value: object) -> str:
    """Returns a value as one would type it, or the length of a long list."""
    if isinstance(value, list | tuple) and len(value) > 3:
        return f"{len(value)} values"
    return str(value)
