"""Workers as actors of a Ray cluster: one that runs already, or one that is started for this run."""

import asyncio
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError

from .launcher import Lost, MakeEquipment
from .published import as_numbers
from .worker import Answer, Worker

_PREFIX = "arpo-ray-"
_RECORD = "ray-folder"
"""File in the run's folder that names the folder of its own cluster."""
_AT_ONCE = 8
"""Calls that an actor takes at the same time: its work, and whether it is alive."""
_SHARE = 0.001
"""Processors that an actor asks for: as good as none, but Ray deals actors that ask for nothing to nodes at random."""


class RayLauncher:
    """Starts workers as actors.

    If `RAY_ADDRESS` names a running cluster, it is used; this package must be installed on its nodes, and they must see the
    run's folder and the model's by the same paths. Otherwise a cluster is started on this machine for this run. It talks
    over the loopback address alone, and to those only who know its token; it has no dashboard. What it writes lies in a folder
    of its own, because the paths of its sockets may have no more than 107 bytes; the run's folder holds its name. Nothing of
    the environment's variables or of the working directory is sent to the nodes.

    Args:
        folder: of the run.
        gpus: for each worker.

    Raises:
        ConfigError: the cluster cannot be reached.
    """

    def __init__(self, folder: Path, gpus: float = 0.0) -> None:
        self._record = folder / _RECORD
        _remove(self._record)  # what a run that was killed has left
        address = os.environ.get("RAY_ADDRESS")
        self._own: Path | None = None
        """The folder of a cluster that was started for this run."""
        with _signals_kept():
            if address and address != "local":
                self._began = _join(address)
            else:
                self._own = _start(self._record)
                self._began = self._own is not None
        self._gpus = gpus

    def create(self, make: MakeEquipment) -> Any:
        """Starts an actor; see `Launcher`, as for the rest."""
        import ray

        limits = {"max_concurrency": _AT_ONCE, "max_restarts": 0, "max_task_retries": 0}
        where = {"num_cpus": _SHARE, "num_gpus": self._gpus, "scheduling_strategy": "SPREAD"}
        return ray.remote(_Actor).options(**limits, **where).remote(make)

    async def call(self, worker: Any, method: str, *arguments: Any) -> Answer:
        """Has it do something."""
        import ray

        try:
            answer: Answer = await asyncio.wrap_future(worker.answer.remote(method, *arguments).future())
        except ray.exceptions.RayError as error:
            raise Lost(f"Its actor ended: {str(error).strip().splitlines()[0]}") from None  # the error holds the whole actor
        return answer

    async def health(self, worker: Any, within: float) -> bool:
        """Asks the actor's event loop."""
        import ray

        try:
            await asyncio.wait_for(asyncio.wrap_future(worker.sign.remote().future()), within)
        except (TimeoutError, ray.exceptions.RayError):
            return False
        return True

    def kill(self, worker: Any) -> None:
        """Kills the actor's process."""
        import ray

        with suppress(ray.exceptions.RayError, ValueError):
            ray.kill(worker, no_restart=True)

    def publish(self, weights: Mapping[str, Any], version: int) -> Any:
        """Puts the weights into the store, once for all workers."""
        import ray

        return ray.put(as_numbers(weights))

    def withdraw(self, published: Any) -> None:
        """Does nothing: the store drops them with the last reference to them."""

    async def close(self) -> None:
        """Leaves the cluster, which ends the actors; ends it if it was started for this run."""
        import ray

        if self._began:
            self._began = False
            await asyncio.to_thread(ray.shutdown)
            if self._own is not None:  # the run's folder, and the record with it, may be gone
                shutil.rmtree(self._own, ignore_errors=True)
                self._record.unlink(missing_ok=True)


class _Actor(Worker):
    """A worker that says whether it is alive."""

    async def sign(self) -> None:
        """Returns as soon as the event loop comes to it."""


_QUIET: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}


def _join(address: str) -> bool:
    """Connects to a cluster; returns whether the connection is this process's to end.

    Raises:
        ConfigError: it cannot be reached.
    """
    _before_ray(fresh=False)
    import ray

    if ray.is_initialized():
        return False
    try:
        ray.init(address=address, **_QUIET)
    except ConnectionError as error:
        raise ConfigError(f"The Ray cluster at RAY_ADDRESS={address} cannot be reached: {error}") from error
    return True


def _start(record: Path) -> Path | None:
    """Starts a cluster on this machine; returns its folder, None if this process has a cluster already."""
    _before_ray(fresh=True)
    import ray

    if ray.is_initialized():
        return None
    own = Path(tempfile.mkdtemp(prefix=_PREFIX))
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(str(own), encoding="utf-8")
    ray.init(address="local", include_dashboard=False, _temp_dir=str(own), **_QUIET)
    return own


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keeps what this process does on SIGTERM: Ray would exit at once, in the middle of an update."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _before_ray(*, fresh: bool) -> None:
    """Sets what Ray reads when it is imported or started; what the user has set stays, and a running cluster has its own."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # under `uv run` it would send the working directory
    if fresh:
        # Only so do its servers listen on the loopback address; given that address as the node's, Ray takes another one.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _remove(record: Path) -> None:
    """Removes the folder that a record names, and the record."""
    if not record.is_file():
        return
    own = Path(record.read_text(encoding="utf-8").strip())
    if own.name.startswith(_PREFIX):  # nothing else is ever removed
        shutil.rmtree(own, ignore_errors=True)
    record.unlink()
