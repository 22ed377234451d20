"""Where the rollouts of a run are put: `--cluster` and `--engines`."""

from dataclasses import dataclass
from typing import Literal

from arpo_envs import ConfigError

from ..cluster import require_ray

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
