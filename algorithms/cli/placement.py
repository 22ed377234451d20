"""Where the parts of a run are put, and when rollouts are collected: `--cluster`, `--engines`, `--learners`, `--ahead`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from arpo_envs import ConfigError

from ..cluster import require_ray, require_same_nodes

_USUAL = 2


@dataclass(frozen=True)
class Placement:
    """Where rollouts run, and on how many processes the learner's model lies.

    Raises:
        ConfigError: the options contradict each other.
    """

    cluster: Literal["none", "local", "ray"] = "none"
    """Where rollouts run. none: in the training process. local: in other processes on this machine. ray: in processes of a Ray
    cluster, either the one that RAY_ADDRESS names, or one that is started here for the run."""
    engines: int | None = None
    """With --cluster: number of rollout processes, each with its own environments and its own policy engine, or its own
    client of the servers if --policy is a URL (default: 2)."""
    learners: int = 1
    """With --cluster: number of processes across which the learner's model is sharded (FSDP2). With 1, the model stays whole in
    the training process."""
    ahead: int = 0
    """1: collect a step's rollouts while the learner updates on the previous step's. The new rollouts come from weights that
    are one update old; importance sampling corrects for this. 0: collect each step with the newest weights."""

    def __post_init__(self) -> None:
        """Refuses values without an effect."""
        if self.engines is not None and self.cluster == "none":
            raise ConfigError("--engines would have no effect without --cluster.")
        if self.engines is not None and self.engines < 1:
            raise ConfigError(f"engines must be at least 1, got {self.engines}.")
        if self.learners < 1:
            raise ConfigError(f"learners must be at least 1, got {self.learners}.")
        if self.learners > 1 and self.cluster == "none":
            raise ConfigError(f"--learners {self.learners} needs --cluster local or --cluster ray.")
        if self.ahead not in (0, 1):
            raise ConfigError(f"ahead must be 0 or 1, got {self.ahead}: rollouts may be one update old, and no more.")

    @property
    def is_elsewhere(self) -> bool:
        """Whether rollouts run in other processes."""
        return self.cluster != "none"

    @property
    def processes(self) -> int:
        """How many engines and ranks of the learner there are together."""
        return self.count + (self.learners if self.learners > 1 else 0)

    @property
    def count(self) -> int:
        """How many engines there are."""
        return self.engines or _USUAL

    def require_device(self, device: str) -> None:
        """Refuses a device that engines elsewhere would not have.

        Raises:
            ConfigError: it is one GPU of several.
        """
        if self.cluster == "ray" and device.startswith("cuda:"):
            raise ConfigError(
                f"--device {device} names one GPU of a machine, and --cluster ray gives each engine one of its own, the only "
                "one that it sees. Use --device cuda; CUDA_VISIBLE_DEVICES says which GPUs there are."
            )

    def beside(self, run: Path) -> Path | None:
        """Returns where a trial keeps its files, so that whoever sees a run sees them; None for anywhere."""
        if self.cluster != "ray":
            return None
        return next(folder for folder in run.absolute().parents if folder.is_dir())

    def require(self) -> None:
        """Checks, before the long work, for what would stop a run.

        Raises:
            ConfigError: something would.
        """
        if self.cluster == "ray":
            require_ray()

    async def same_versions(self) -> list[str]:
        """Compares the machines of a running cluster, before the long work; returns a line for each that does not answer.

        Raises:
            ConfigError: their versions differ, or the cluster cannot be reached.
        """
        if self.cluster != "ray":
            return []
        require_ray()
        return await require_same_nodes()
