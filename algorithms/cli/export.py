"""`arpo export`: the leaves of a run's trees as documents that other tools read."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.text import Text

from arpo_envs import ConfigError, members
from arpo_envs.errors import unknown_name
from arpo_envs.screen import readable

from ..durable import sync, sync_all
from ..policies.served import is_url
from ..rollout import TextEnv
from ..tree import RolloutTree, Status
from .config import TrainConfig
from .docstrings import with_help
from .gating import Gate
from .outputs import require_folder
from .progress import saying
from .stored import Stored, Wanted, stored

if TYPE_CHECKING:
    from ..tracking.atif import Spoken


@with_help
@dataclass(frozen=True)
class ExportConfig:
    """Write the leaves of a run's trees as documents."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, or a file of trees."""
    output: Path
    """Folder to write, which must not exist yet, or be empty: one file for each leaf."""
    format: Literal["atif"] = "atif"
    """Format of the documents. atif: the Agent Trajectory Interchange Format, version 1.8, that Harbor reads."""
    leaves: Literal["all", "best"] = "all"
    """Which leaves of each tree. best: the one with the highest reward; one that says nothing about the model is never it."""
    step: int | None = None
    """Only the trees of this step, counted from 0 (default: all)."""
    outcome: Literal["right", "wrong", "failed"] | None = None
    """Only leaves with this outcome; failed says nothing about the model (default: all)."""
    tool: str | None = None
    """Only leaves on whose path this tool ran (default: all)."""
    status: str | None = None
    """Only leaves that ended so, such as answered or truncated (default: all)."""
    include_gated: bool = False
    """Also write questions of benchmarks that their authors ask not to pass on."""


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo export`."""
    about = "Write the leaves of a run's trees as documents that other tools read."
    config = tyro.cli(ExportConfig, args=list(arguments), prog="arpo export", description=about)
    if config.status is not None and config.status not in list(Status):
        raise unknown_name("status", config.status, [str(status) for status in Status])
    require_folder(config.output)
    _require_atif()
    folder = config.run if config.run.is_dir() else config.run.parent
    gate = Gate.of_folder(folder, include_gated=config.include_gated)
    trees = stored(config.run)
    if config.output.exists() and any(config.output.iterdir()):
        raise ConfigError(f"{config.output} exists and is not an empty folder. Name another one, or remove it.")
    console = Console(highlight=False)
    try:
        with saying(console, "reading trees …") as say:
            count, numbers = _write(config, trees, Provenance(folder), gate, say)
    except OSError as error:
        raise ConfigError(f"{config.output} cannot be written: {error.strerror}. What was written has been removed.") from error
    said = [f"{readable(str(config.output))}: {count} documents of {numbers} trees", gate.left_out(), gate.doubt()]
    console.print(Text("\n".join(filter(None, said))), soft_wrap=True)
    return 0


def _require_atif() -> None:
    """Checks for the package that makes the documents.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import atif  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError("ATIF documents need the package atif: pip install 'arpo-envs[atif]'.") from error


@dataclass(frozen=True)
class Provenance:
    """Where trees are from.

    Args:
        folder: of the run; it need not have a configuration.
    """

    folder: Path

    @cached_property
    def config(self) -> TrainConfig | None:
        """The run's configuration; None without one."""
        return TrainConfig.load(self.folder) if TrainConfig.is_in(self.folder) else None

    @property
    def model(self) -> str | None:
        """Name of the run's model, without the folders of this machine; None if unknown."""
        if self.config is None or is_url(name := self.config.source.model):
            return None
        return Path(name).name if Path(name).is_absolute() else name

    @cached_property
    def _env(self) -> TextEnv | None:
        if self.config is None:
            return None
        env = self.config.make_env(*self.config.train_args)()
        env.close()
        return env

    def spoken(self, tree: RolloutTree) -> "Spoken | None":
        """Returns how a tree of an older version, which does not say it, was written: as the run's environment wants it."""
        from ..tracking.atif import Spoken

        if self._env is None:
            return None
        env: Any = members.MIXED.through(self._env).get(tree.meta.get("env", ""), self._env)
        dialect = members.DIALECT.through(env)
        return None if dialect is None else Spoken(dialect, tuple(members.TOOL_SPECS.through(env)))


def _write(config: ExportConfig, trees: Stored, where: Provenance, gate: Gate, say: Callable[[str], None]) -> tuple[int, int]:
    """Writes the folder whole or not at all; returns how many documents it has, and of how many trees.

    Raises:
        ConfigError: a tree cannot be read or exported, or no leaf is as asked for.
    """
    output = config.output.absolute()
    temporary = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    count, numbers = 0, set()
    try:
        temporary.mkdir(parents=True)
        for number, name, document in _documents(config, trees, where, gate):
            (temporary / f"{name}.json").write_text(document, encoding="utf-8", newline="\n")
            count += 1
            numbers.add(number)
            say(f"{count:,} documents of {len(numbers):,} trees")
        if not count:
            raise ConfigError(f"No leaf of {trees.path} is as asked for. {gate.left_out()}".strip())
        sync_all(temporary)
        os.replace(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync(output.parent)
    return count, len(numbers)


def _documents(config: ExportConfig, trees: Stored, where: Provenance, gate: Gate) -> Iterator[tuple[int, str, str]]:
    """Yields a tree's number, the name of a document and its text, one tree after the other.

    Raises:
        ConfigError: a tree cannot be read or exported; says which.
    """
    from ..tracking.atif import trajectory

    wanted, session = Wanted(config.outcome, config.tool, config.status), where.folder.resolve().name
    current, prompt = None, 0
    for number in trees.of_step(config.step) if config.step is not None else range(trees.count):
        tree = trees.tree(number)
        step = int(tree.meta.get("step", 0))
        current, prompt = step, prompt + 1 if step == current else 1
        if gate.keeps_back(tree):
            continue
        places = {leaf: place for place, leaf in enumerate(tree.leaves(), 1)}
        kept = wanted.leaves(tree)
        for leaf in _best(tree, kept) if config.leaves == "best" else kept:
            name = f"step-{step:05}-prompt-{prompt:03}-leaf-{places[leaf]:03}"
            try:
                spoken = None if "dialect" in tree.meta else where.spoken(tree)
                made = trajectory(tree, leaf, name=name, session=session, model=where.model, spoken=spoken)
                yield number, name, made.model_dump_json(indent=1, exclude_none=True) + "\n"
            except (ConfigError, ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"Tree {number} of {trees.path} cannot be exported: {error}") from error


def _best(tree: RolloutTree, leaves: Sequence[int]) -> list[int]:
    """Returns the leaf with the highest reward, the first of equals; none if no end says anything about the model."""
    ended = [leaf for leaf in leaves if (status := tree.nodes[leaf].status) is not None and status.is_model]
    return [max(ended, key=tree.total_reward)] if ended else []
