"""Workers as processes of this machine: one executor with a single process for each."""

import asyncio
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .launcher import Lost, MakeEquipment
from .published import write_published
from .worker import Answer, Worker

_BEAT = 0.5
"""Seconds between two signs of life."""
_LOOK = 0.1
_ENDING = 10.0
"""Seconds that a worker without work has to end by itself."""


class _Local:
    """A worker as its launcher knows it."""

    def __init__(self, make: MakeEquipment) -> None:
        context = multiprocessing.get_context("spawn")
        self.signs, sending = context.Pipe(duplex=False)
        os.set_blocking(self.signs.fileno(), False)
        os.set_blocking(sending.fileno(), False)
        self.executor = ProcessPoolExecutor(1, context, _settle, (make, sending))
        before = set(multiprocessing.active_children())
        self.executor.submit(os.getpid)  # an executor starts its process with the first work
        (self.process,) = tuple(set(multiprocessing.active_children()) - before)
        sending.close()
        self.busy = 0


class LocalLauncher:
    """Starts workers as processes of this machine.

    Args:
        folder: of the run; new weights pass through it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "cluster"
        shutil.rmtree(self._folder, ignore_errors=True)  # what a run that was killed has left
        self._workers: list[_Local] = []

    def create(self, make: MakeEquipment) -> _Local:
        """Starts a process; see `Launcher`, as for the rest."""
        worker = _Local(make)
        self._workers.append(worker)
        return worker

    async def call(self, worker: _Local, method: str, *arguments: Any) -> Answer:
        """Has it do something, after what it was asked for before."""
        worker.busy += 1
        try:
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
        """Kills the process, also one that is stopped."""
        worker.process.kill()
        worker.executor.shutdown(wait=True, cancel_futures=True)
        worker.signs.close()
        if worker in self._workers:
            self._workers.remove(worker)

    def publish(self, weights: Mapping[str, Any], version: int) -> Path:
        """Writes the weights into the run's folder."""
        folder = self._folder / f"weights-{version:06d}-{time.monotonic_ns()}"
        return write_published(weights, folder)

    def withdraw(self, published: Path) -> None:
        """Removes them from there."""
        shutil.rmtree(published, ignore_errors=True)

    async def close(self) -> None:
        """Asks idle workers to end, kills those that do not, and removes the weights."""
        ending = [asyncio.ensure_future(self._end(worker)) for worker in self._workers]
        if ending:
            await asyncio.wait(ending, timeout=_ENDING)
        for worker in [*self._workers]:
            self.kill(worker)
        await asyncio.gather(*ending, return_exceptions=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _end(self, worker: _Local) -> None:
        if not worker.busy:
            with suppress(Lost):
                await self.call(worker, "close")
                await asyncio.to_thread(worker.executor.shutdown)


def _drain(signs: Connection) -> bool:
    """Returns whether there were signs of life, and takes them."""
    with suppress(BlockingIOError):
        return bool(os.read(signs.fileno(), 1 << 16))
    return False


# --- in the worker's process ---------------------------------------------------------------------------------


class _Place:
    """What a process holds between two calls."""

    worker: Worker
    sending: Connection
    runner: asyncio.Runner


@cache
def _here() -> _Place:
    """Returns this process's place."""
    return _Place()


def _settle(make: MakeEquipment, sending: Connection) -> None:
    """Makes this process a worker's, which ends when the process that started it ends, whatever ended that."""
    signal.signal(signal.SIGINT, lambda number, frame: None)  # Ctrl-C reaches all processes; the first one decides
    place = _here()
    place.worker, place.sending, place.runner = Worker(make), sending, asyncio.Runner()
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _answer(method: str, arguments: tuple[Any, ...]) -> Answer:
    place = _here()
    return place.runner.run(_alive(place, method, arguments))


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
