"""Launchers by the name that `--cluster` gives them."""

from importlib.util import find_spec
from pathlib import Path

from arpo_envs import ConfigError

from .launcher import Launcher
from .local import LocalLauncher


def require_ray() -> None:
    """Refuses to go on without Ray.

    Raises:
        ConfigError: it is not installed.
    """
    if find_spec("ray") is None:
        raise ConfigError("--cluster ray needs Ray: pip install 'arpo-envs[cluster]'.")


def launcher_for(kind: str, folder: Path, gpus: float = 0.0, count: int = 1) -> Launcher:
    """Returns the launcher of `--cluster`.

    Args:
        kind: local or ray.
        folder: of the run, for weights on their way and for what must be removed later.
        gpus: for each worker, as far as the launcher deals them out.
        count: how many workers there will be at the same time.

    Raises:
        ConfigError: Ray is not installed, its cluster cannot be reached or has no room, or the folder holds another's files.
    """
    if kind == "ray":
        require_ray()
        from .ray_actors import RayLauncher

        return RayLauncher(folder, gpus, count)
    return LocalLauncher(folder)
