"""Workers as processes of this machine: one executor with a single process for each.

A worker starts processes, too: an engine's, those of tools. It leads a session, so that all of them can be killed together
when it has died itself, and so that Ctrl-C, which a terminal sends to all processes of its own, is for the trainer alone.
"""

import asyncio
import itertools
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .launcher import Answers, Lost, MakeWorker
from .leftovers import WORKERS, began, clear_workers, kill_group, make_recorded, move_in, require_ours
from .published import write_published
from .worker import Answer, Worker

_BEAT = 0.5
"""Seconds between two signs of life."""
_LOOK = 0.1
_ENDING = 10.0
"""Seconds that a worker without work has to end by itself."""
_PREFIX = "arpo-local-"
_START = "spawn"
"""How processes start: a fork would hold this one's threads, locks and devices."""


class _Local:
    """A worker as its launcher knows it.

    Args:
        make: see `Launcher.create`.
        kind: likewise.
        temporary: its folder for temporary files.
        after: threads that wait for the end of killed ones, which may still hold the device that it needs.
    """

    def __init__(self, make: Any, kind: MakeWorker, temporary: Path, after: Sequence[threading.Thread]) -> None:
        self.temporary, self.after = temporary, after
        context = multiprocessing.get_context(_START)
        self.signs, sending = context.Pipe(duplex=False)
        os.set_blocking(self.signs.fileno(), False)
        os.set_blocking(sending.fileno(), False)
        self.executor = ProcessPoolExecutor(1, context, _settle, (kind, make, sending, temporary))
        before = set(multiprocessing.active_children())
        self.executor.submit(os.getpid)  # an executor starts its process with the first work
        (self.process,) = tuple(set(multiprocessing.active_children()) - before)
        assert self.process.pid is not None, "it is started"
        self.pid, self.since = self.process.pid, began(self.process.pid)
        sending.close()
        self.busy = 0

    def tidy(self) -> None:
        """Waits until the process has ended, which may take long after it was killed, and removes its temporary files."""
        self.executor.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self.temporary, ignore_errors=True)


class LocalLauncher:
    """Starts workers as processes of this machine.

    Args:
        folder: of the run; new weights pass through it.

    Raises:
        ConfigError: what is called `cluster` there is not ours.
    """

    _one_at_a_time = threading.Lock()
    """A new process is found among those of this one, of which another thread may start more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / WORKERS
        require_ours(self._folder)
        clear_workers(self._folder)  # what a run that was killed has left
        self._workers: list[_Local] = []
        self._tidying: list[threading.Thread] = []
        self._temporary: Path | None = None
        self._numbers = itertools.count(1)

    def create(self, make: Any, kind: MakeWorker = Worker) -> _Local:
        """Starts a process; see `Launcher`, as for the rest."""
        with self._one_at_a_time:
            worker = _Local(make, kind, self._settled() / str(next(self._numbers)), tuple(self._tidying))
        self._workers.append(worker)
        return worker

    async def call(self, worker: _Local, method: str, *arguments: Any) -> Answer:
        """Has it do something, after what it was asked for before."""
        worker.busy += 1
        try:
            for thread in filter(threading.Thread.is_alive, worker.after):
                await asyncio.to_thread(thread.join)
            return await asyncio.wrap_future(worker.executor.submit(_answer, method, arguments))
        except (BrokenProcessPool, RuntimeError) as error:  # RuntimeError: no more work is taken
            raise Lost("Its process ended.") from error
        finally:
            worker.busy -= 1

    async def health(self, worker: _Local, within: float) -> bool:
        """Waits for a new beat of the worker's event loop."""
        _drain(worker.signs)
        until = time.monotonic() + within
        while time.monotonic() < until:
            if _drain(worker.signs):
                return True
            await asyncio.sleep(_LOOK)
        return False

    def kill(self, worker: _Local) -> None:
        """Kills the process, also one that is stopped, and those that it has started, also if it is dead already.

        Another thread waits for its end, so that the event loop of whoever calls this goes on.
        """
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        kill_group(worker.pid, worker.since)
        worker.process.kill()
        worker.signs.close()
        self._tidying.append(threading.Thread(target=worker.tidy, daemon=True))
        self._tidying[-1].start()

    def publish(self, weights: Mapping[str, Any], version: int) -> Path:
        """Writes the weights into the run's folder."""
        self._settled()
        folder = self._folder / f"weights-{version:06d}-{time.monotonic_ns()}"
        return write_published(weights, folder)

    def withdraw(self, published: Path) -> None:
        """Removes them from there."""
        shutil.rmtree(published, ignore_errors=True)

    async def close(self) -> None:
        """Asks idle workers to end, kills those that do not, and removes weights and temporary files."""
        ending = [asyncio.ensure_future(self._end(worker)) for worker in self._workers]
        if ending:
            await asyncio.wait(ending, timeout=_ENDING)
        for worker in [*self._workers]:
            self.kill(worker)
        await asyncio.gather(*ending, return_exceptions=True)
        for thread in self._tidying:
            await asyncio.to_thread(thread.join)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)  # the run's folder, and the record with it, may be gone
            shutil.rmtree(self._folder, ignore_errors=True)
            self._temporary = None

    def _settled(self) -> Path:
        """Returns the folder for temporary files, whose record is the first thing in the run's folder."""
        if self._temporary is None:
            self._temporary = make_recorded(self._folder, _PREFIX)
        return self._temporary

    async def _end(self, worker: _Local) -> None:
        if not worker.busy:
            with suppress(Lost):
                await self.call(worker, "close")
                await asyncio.to_thread(worker.executor.shutdown)


def _drain(signs: Connection) -> bool:
    """Returns whether there were signs of life, and takes them; there are none of a worker that was killed meanwhile."""
    with suppress(BlockingIOError):
        return not signs.closed and bool(os.read(signs.fileno(), 1 << 16))
    return False


# --- in the worker's process ---------------------------------------------------------------------------------


class _Place:
    """What a process holds between two calls."""

    worker: Answers
    sending: Connection
    loop: asyncio.AbstractEventLoop
    """Goes round between two calls, too: what is under way does not wait for the next one."""


@cache
def _here() -> _Place:
    """Returns this process's place."""
    return _Place()


def _settle(kind: MakeWorker, make: Any, sending: Connection, temporary: Path) -> None:
    """Makes this process a worker's, which ends when the process that started it ends, whatever ended that."""
    os.setsid()
    move_in(temporary)
    place = _here()
    place.worker, place.sending, place.loop = kind(make), sending, asyncio.new_event_loop()
    threading.Thread(target=_go_round, args=(place.loop,), daemon=True).start()
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _go_round(loop: asyncio.AbstractEventLoop) -> None:
    """Runs a loop for good: a `sys.exit` of somebody's code leaves it, and nothing would be answered any more."""
    while True:
        with suppress(SystemExit):
            loop.run_forever()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(0, signal.SIGKILL)  # itself, and what it has started


def _answer(method: str, arguments: tuple[Any, ...]) -> Answer:
    place = _here()
    try:
        return asyncio.run_coroutine_threadsafe(_alive(place, method, arguments), place.loop).result()
    except SystemExit as error:  # of somebody's code; it would end the run
        return Answer(error=RuntimeError(f"{method} called sys.exit({error.code!r})."))


async def _alive(place: _Place, method: str, arguments: tuple[Any, ...]) -> Answer:
    """Answers, and gives signs of life meanwhile as long as the event loop goes round."""

    async def beat() -> None:
        while True:
            with suppress(BlockingIOError, BrokenPipeError):  # nobody has looked for long, or ever will again
                os.write(place.sending.fileno(), b".")
            await asyncio.sleep(_BEAT)

    beating = asyncio.ensure_future(beat())
    try:
        return await place.worker.answer(method, *arguments)
    finally:
        beating.cancel()
