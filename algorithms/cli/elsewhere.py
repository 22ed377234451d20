"""Rollouts in other processes: where `--cluster` puts them, and what is made there."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from arpo_envs import ConfigError

from ..cluster import ClusterPolicy, Engines, Equipment, Standing, launcher_for, require_ray

if TYPE_CHECKING:
    from .config import TrainConfig

_USUAL = 2


@dataclass(frozen=True)
class Placement:
    """Where rollouts run.

    Raises:
        ConfigError: the options contradict each other.
    """

    cluster: Literal["none", "local", "ray"] = "none"
    """Where rollouts run. none: in the process that trains. local: in other processes of this machine. ray: in those of a Ray
    cluster: the one that RAY_ADDRESS names, or else one that is started here for the run."""
    engines: int | None = None
    """With --cluster: in how many processes, each with a policy engine and environments of its own (default: 2)."""

    def __post_init__(self) -> None:
        """Refuses values without an effect."""
        if self.engines is not None and self.cluster == "none":
            raise ConfigError("--engines would have no effect without --cluster.")
        if self.engines is not None and self.engines < 1:
            raise ConfigError(f"engines must be at least 1, got {self.engines}.")

    @property
    def is_elsewhere(self) -> bool:
        """Whether rollouts run in other processes."""
        return self.cluster != "none"

    @property
    def count(self) -> int:
        """How many engines there are."""
        return self.engines or _USUAL

    def require(self) -> None:
        """Checks, before the long work, for what would stop a run.

        Raises:
            ConfigError: something would.
        """
        if self.cluster == "ray":
            require_ray()


@dataclass(frozen=True)
class Description:
    """Makes in a worker what it works with, from the configuration of the run.

    Args:
        config: resolved.
        folder: of the policy that the run starts from; the worker sees it by the same path.
        dialect: of the environments.
    """

    config: "TrainConfig"
    folder: Path
    dialect: str

    def __call__(self) -> Equipment:
        """Returns a policy, whose weights are still those of the folder, and a renderer."""
        import torch

        from ..models.loading import load_tokenizer
        from .parts import renderer_for, sampler

        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        tokenizer = load_tokenizer(self.folder)
        policy = sampler(self.config, self.folder, None, tokenizer)
        return Equipment(policy, renderer_for(self.folder, tokenizer, self.dialect))


@dataclass(frozen=True)
class Told:
    """Who is told of engines: what happens to them, and how far a batch is."""

    tell: Callable[[str], None] = lambda line: None
    show: Callable[[Standing], None] = lambda standing: None


def engines_for(config: "TrainConfig", folder: Path, dialect: str, told: Told) -> ClusterPolicy:
    """Returns the stand-in of a run's engines, which are started by its first `load`.

    Args:
        config: resolved.
        folder: of the policy that the run starts from.
        dialect: of the environments.
        told: is told of them.
    """
    placement, options = config.placement, dict[str, Any]()
    if config.device.partition(":")[0] == "cuda":
        options["gpus"] = 1.0
    launcher = launcher_for(placement.cluster, config.output or Path(), **options)
    make = Description(config, folder.absolute(), dialect)
    return ClusterPolicy(Engines(launcher, make, placement.count, tell=told.tell, show=told.show))
