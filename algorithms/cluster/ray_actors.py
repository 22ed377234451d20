"""Workers as actors of a Ray cluster: one that runs already, or one that is started for this run."""

import asyncio
import itertools
import os
import secrets
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from arpo_envs import ConfigError

from .launcher import Lost, MakeWorker
from .leftovers import WORKERS, clear_workers, is_recorded, make_recorded, mark_ours, move_in, require_ours
from .published import Elsewhere, as_numbers, write_published
from .ray_room import may_grow, room, told
from .worker import Answer, Worker

_PREFIX = "arpo-ray-"
_AT_ONCE = 8
"""Calls that an actor takes at the same time: its work, and whether it is alive."""
_ENDING = 10.0
"""Seconds that actors without work have to end what they have started."""
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
        count: how many workers there will be at the same time.

    Raises:
        ConfigError: the cluster cannot be reached, or has no room for them.
    """

    _numbers = itertools.count(1)
    """Of actors; launchers may share a folder for their temporary files."""

    def __init__(self, folder: Path, gpus: float = 0.0, count: int = 1) -> None:
        self._folder = folder.absolute() / WORKERS
        require_ours(self._folder)
        clear_workers(self._folder)  # what a run that was killed has left
        address = os.environ.get("RAY_ADDRESS")
        self._own: Path | None = None
        """The folder of a cluster that was started for this run, by this launcher or by another one."""
        with _signals_kept():
            if address and address != "local":
                self._began = _join(address)
            else:
                self._own, self._began = _start(self._folder)
        self._gpus = gpus
        if (why := self._no_room(count)) is not None:
            self._leave()
            raise ConfigError(f"{why} Ask for fewer (--engines, --learners), choose another --device, or add nodes.")
        self._workers: list[Any] = []
        self._busy: Counter[int] = Counter()
        """How many calls an actor has, by its identity here."""

    def create(self, make: Any, kind: MakeWorker = Worker) -> Any:
        """Starts an actor; see `Launcher`, as for the rest."""
        import ray

        if (why := self._no_room(len(self._workers) + 1)) is not None:
            raise Lost(why)
        limits = {"max_concurrency": _AT_ONCE, "max_restarts": 0, "max_task_retries": 0}
        where = {"num_cpus": _SHARE, "num_gpus": self._gpus, "scheduling_strategy": "SPREAD"}
        temporary = self._own / f"w{next(self._numbers)}" if self._own is not None else None
        worker = ray.remote(_Actor).options(**limits, **where).remote(kind, make, temporary)
        self._workers.append(worker)
        return worker

    async def call(self, worker: Any, method: str, *arguments: Any) -> Answer:
        """Has it do something."""
        import ray

        self._busy[id(worker)] += 1
        try:
            answer: Answer = await asyncio.wrap_future(worker.answer.remote(method, *arguments).future())
        except ray.exceptions.RayError as error:
            raise Lost(f"Its actor ended: {str(error).strip().splitlines()[0]}") from None  # the error holds the whole actor
        finally:
            self._busy[id(worker)] -= 1
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

        if worker in self._workers:
            self._workers.remove(worker)
        with suppress(ray.exceptions.RayError, ValueError):
            ray.kill(worker, no_restart=True)

    def publish(self, weights: Mapping[str, Any], version: int) -> Any:
        """Puts the weights into the store, once for all workers; what lies elsewhere goes through the run's folder."""
        import ray

        if isinstance(weights, Elsewhere):
            mark_ours(self._folder)
            return write_published(weights, self._folder / f"weights-{version:06d}-{time.monotonic_ns()}")
        return ray.put(as_numbers(weights))

    def withdraw(self, published: Any) -> None:
        """Removes them from the folder; the store drops them with the last reference to them."""
        if isinstance(published, Path):
            shutil.rmtree(published, ignore_errors=True)

    async def close(self) -> None:
        """Asks idle actors to end what they have started, ends all, and leaves the cluster; ends it if it is the run's own."""
        ending = [asyncio.ensure_future(self._end(worker)) for worker in self._workers]
        if ending:
            await asyncio.wait(ending, timeout=_ENDING)
        for worker in [*self._workers]:
            self.kill(worker)
        await asyncio.gather(*ending, return_exceptions=True)
        await asyncio.to_thread(self._leave)

    def _leave(self) -> None:
        import ray

        if self._began:
            self._began = False
            ray.shutdown()
            if self._own is not None:  # the run's folder, and the record with it, may be gone
                shutil.rmtree(self._own, ignore_errors=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _no_room(self, count: int) -> str | None:
        """Returns why so many actors would be waited for in vain; None if they would not, or if the cluster may grow."""
        import ray

        asked = {"CPU": _SHARE, "GPU": self._gpus}
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        if (found := room(nodes, asked)) >= count or may_grow():
            return None
        return (
            f"{count} processes ask for {self._gpus:g} GPU and {_SHARE:g} CPU each, and the Ray cluster has room for {found}: "
            f"{told(nodes, tuple(asked))}."
        )

    async def _end(self, worker: Any) -> None:
        if not self._busy[id(worker)]:
            with suppress(Lost):
                await self.call(worker, "close")


class _Actor:
    """A worker that says whether it is alive.

    Args:
        kind: makes it; see `MakeWorker`.
        make: is given to that.
        temporary: folder for temporary files; None for where Ray's processes have theirs.
    """

    def __init__(self, kind: MakeWorker, make: Any, temporary: Path | None) -> None:
        if temporary is not None:
            move_in(temporary)
        self._worker = kind(make)

    async def answer(self, method: str, *arguments: Any) -> Answer:
        """Has the worker do something."""
        return await self._worker.answer(method, *arguments)

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


def _start(folder: Path) -> tuple[Path | None, bool]:
    """Starts a cluster on this machine, unless there is one already.

    Returns its folder, which a launcher's names, and whether it is this launcher's to end. There is no folder if neither this
    launcher nor another one has started it: its nodes may be anywhere.
    """
    _before_ray(fresh=True)
    import ray

    if ray.is_initialized():
        with suppress(AttributeError):  # a Ray client does not know it
            there = Path(ray.get_runtime_context().get_temp_dir())
            return (there if is_recorded(there) else None), False
        return None, False
    own = make_recorded(folder, _PREFIX)
    ray.init(address="local", include_dashboard=False, _temp_dir=str(own), **_QUIET)
    return own, True


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
        os.environ.setdefault("RAY_process_group_cleanup_enabled", "1")  # what a killed actor has started is killed, too
        # Only so do its servers listen on the loopback address; given that address as the node's, Ray takes another one.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
