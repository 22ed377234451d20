"""Serves an ASGI app on loopback, in a thread of its own, and counts what a test may not leave behind."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from arpo_envs.testing.probing import settled


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Yields the host and port; at the end, the server has shut down."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="websockets-sansio"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


def processes_below(pid: str = "self") -> int:
    """Returns how many processes live below one, those of interpreters under their server included."""
    total = 0
    for task in Path("/proc", pid, "task").iterdir():
        with suppress(OSError):  # it has ended meanwhile
            below = (task / "children").read_text().split()
            total += len(below) + sum(map(processes_below, below))
    return total


def held() -> tuple[int, int, int]:
    """Returns the processes below this one, its threads (not the workers that event loops and tools keep) and descriptors."""
    threads = sum(not thread.name.startswith(("asyncio_", "AnyIO", "arpo-python")) for thread in threading.enumerate())
    return processes_below(), threads, len(os.listdir("/proc/self/fd"))


def freed(before: tuple[int, int, int]) -> bool:
    """Returns whether no more is held than before, at once or soon."""
    return not settled(lambda: int(any(now > then for now, then in zip(held(), before, strict=True))), 0)
