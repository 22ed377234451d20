"""A session's process, as the host knows it."""

import contextlib
from dataclasses import dataclass
from typing import Any

from ...errors import CloneError
from .budget import Budget
from .server.frames import Channel


@dataclass(eq=False)
class Process:
    """A session process, as the host knows it.

    Args:
        channel: to the process.
        pid: as this process sees it, from the kernel.
        inner: as the server sees it.
        budget: what it counts for.
        pidfd: a descriptor of it, only where no process namespace dies with the server.
        place: what it has to be told of its working directory, with its next order.
        separate: the server has found that it reaches nothing of its original's.
    """

    channel: Channel
    pid: int
    inner: int
    budget: Budget
    pidfd: int | None = None
    place: dict[str, Any] | None = None
    separate: bool = True
    ended: bool = False


def inner_pid(pid: int) -> int:
    """Returns the pid of a process in its own, innermost namespace.

    Raises:
        OSError: no descriptor is left.
        CloneError: it is gone.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/status", encoding="utf-8") as status:
        for line in status:
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    raise CloneError("The new interpreter died at once.")
