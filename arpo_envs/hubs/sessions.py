"""Episodes behind handles, for servers: nobody holds more of them, or longer, than `Limits` allow."""

import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..errors import ArpoError, ConfigError
from .episode import Episode, Step, begin, close_each
from .limits import Limits, memory_taken


@dataclass
class _Held:
    episode: Episode
    used: float
    lock: threading.Lock = field(default_factory=threading.Lock)


class Sessions:
    """Episodes by their handles, which nobody can guess: whoever has one may use, copy and close its session.

    Args:
        make: makes an episode.
        limits: what they may take.
        clock: returns the time in seconds.
    """

    def __init__(self, make: Callable[[], Episode], limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self.limits, self._clock = make, limits, clock
        self._held: dict[str, _Held] = {}
        self._coming = 0  # sessions that are being made
        self._over = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Returns how many sessions live."""
        return len(self._held)

    def open(self, *, seed: int | None = None, task: str | None = None) -> tuple[str, Step]:
        """Begins an episode; returns its handle and the question.

        Raises:
            ArpoError: there is no room for another session.
            ConfigError: no task has that id.
        """
        with self._room(1):
            episode = begin(self._make, seed=seed, task=task)
            return self._hold([episode])[0], episode.last

    def fork(self, handle: str, number: int = 1, seed: int | None = None) -> list[str]:
        """Copies a session in the middle of its episode and returns the copies' handles.

        Args:
            handle: of the session.
            number: of copies.
            seed: reseeds them with seed, seed + 1, …; None keeps the random state.

        Raises:
            ConfigError: nothing has that handle, or a number is out of range.
            ArpoError: it is busy, there is no room, or it cannot be copied; then no copy remains.
        """
        if number < 1 or (seed is not None and seed < 0):
            raise ConfigError(f"A session is copied at least once, with a seed of at least 0; got {number} and {seed}.")
        copies: list[Episode] = []
        with self._room(number), self.using(handle) as episode:
            try:
                for i in range(number):
                    copies.append(episode.clone(None if seed is None else seed + i))
            except BaseException:
                close_each(copies)
                raise
            return self._hold(copies)

    def park(self, episode: Episode) -> str:
        """Keeps a copy of an episode that is not ours; returns its handle.

        Raises:
            ArpoError: there is no room, or it cannot be copied.
        """
        with self._room(1):
            return self._hold([episode.clone()])[0]

    def copy(self, handle: str) -> Episode:
        """Returns a copy of a session that is the caller's to close.

        Raises:
            ConfigError: nothing has that handle.
            ArpoError: it is busy, there is no memory, or it cannot be copied.
        """
        with self.using(handle) as episode:
            self.require_memory()
            return episode.clone()

    @contextmanager
    def using(self, handle: str) -> Iterator[Episode]:
        """Gives a session to one caller at a time.

        Raises:
            ConfigError: nothing has that handle.
            ArpoError: it is busy with another call.
        """
        self.sweep()
        held = self._held.get(handle) if isinstance(handle, str) else None
        if held is None or not held.lock.acquire(blocking=False):
            raise self._unknown() if held is None else ArpoError("The session is busy with another call: wait for its result.")
        try:
            if self._held.get(handle) is not held:  # closed a moment ago
                raise self._unknown()
            yield held.episode
        finally:
            held.used = self._clock()
            held.lock.release()

    def close(self, handle: str) -> None:
        """Closes a session, its call that is running being waited for.

        Raises:
            ConfigError: nothing has that handle.
        """
        self.sweep()
        with self._lock:
            held = self._held.pop(handle, None)
        if held is None:
            raise self._unknown()
        with held.lock:
            close_each([held.episode])

    def sweep(self) -> None:
        """Closes the sessions that have been idle for too long."""
        before = self._clock() - self.limits.idle_seconds
        with self._lock:
            idle = [name for name, held in self._held.items() if held.used < before and not held.lock.locked()]
            late = [self._held.pop(name) for name in idle]
        for held in late:
            with held.lock:
                close_each([held.episode])

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Sweeps while a server runs, whether or not anybody calls; at its end, all sessions are closed."""
        import anyio

        async def sweep() -> None:
            while True:
                await anyio.sleep(self.limits.idle_seconds / 4)
                await anyio.to_thread.run_sync(self.sweep)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sweep)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                self.close_all()

    def serve_with(self, app: Any) -> None:
        """Has an app of Starlette, or FastAPI, sweep while it runs."""
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(app: Any) -> AsyncIterator[Any]:
            async with self.served(), inner(app) as state:
                yield state

        app.router.lifespan_context = lifespan

    def require_memory(self) -> None:
        """Refuses what would take more memory, while the server takes more than it may without what is idle.

        Raises:
            ArpoError: it does.
        """
        self.sweep()
        if (taken := memory_taken()) > self.limits.memory_mb:
            raise ArpoError(
                f"The server is full: it takes {taken} MiB of {self.limits.memory_mb}. Close sessions (in OpenEnv, their "
                f"connections), or wait: what is idle for {self.limits.idle_seconds:g} s is closed, copies too."
            )

    def close_all(self) -> None:
        """Closes every session, and what is being made as soon as it is; there will be no other."""
        with self._lock:
            self._over, held, self._held = True, self._held, {}
        for one in held.values():
            with one.lock:
                close_each([one.episode])

    def _hold(self, episodes: list[Episode]) -> list[str]:
        handles = [secrets.token_urlsafe(18) for _ in episodes]
        with self._lock:
            if not self._over:
                held = (_Held(episode, self._clock()) for episode in episodes)
                self._held.update(zip(handles, held, strict=True))
                return handles
        close_each(episodes)
        raise ArpoError("The server is closing: it opens no more sessions.")

    @contextmanager
    def _room(self, wanted: int) -> Iterator[None]:
        self.sweep()
        with self._lock:
            if len(self._held) + self._coming + wanted > self.limits.sessions:
                raise ArpoError(
                    f"There is no room for {wanted} more: {len(self._held) + self._coming} of {self.limits.sessions} sessions "
                    f"live. Close some, or wait until they have been idle for {self.limits.idle_seconds:g} s."
                )
            self._coming += wanted
        try:
            self.require_memory()
            yield
        finally:
            with self._lock:
                self._coming -= wanted

    def _unknown(self) -> ConfigError:
        return ConfigError(
            "No session has that handle: it was never given, its episode has ended, it was closed, or it was idle for more "
            f"than {self.limits.idle_seconds:g} s. Begin a new one with reset."
        )
