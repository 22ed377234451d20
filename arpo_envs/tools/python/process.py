"""A session's process, as the host knows it."""

import os
import select
import signal
import time
from dataclasses import dataclass
from typing import Any

from ...errors import CloneError
from .budget import Budget
from .server.frames import Channel

_PROCESSOR_TIME = 2
"""The lowest bits of the kernel's name for the clock that counts a process's processor time."""


@dataclass(eq=False)
class Process:
    """A session's process, which is stopped whenever it has no order, so nothing that a cell leaves behind can continue.

    Args:
        channel: the channel to the process.
        pid: as this process sees it, from the kernel.
        inner: as the server sees it.
        budget: the budget it counts towards.
        pidfd: a descriptor that can refer to no other process.
        place: what it must be told about its working directory, with its next order.
        separate: the server has found that it cannot reach anything of its original's.
        top: a descriptor of the top of its working directory; -1 if only the server sees that.
    """

    channel: Channel
    pid: int
    inner: int
    budget: Budget
    pidfd: int
    place: dict[str, Any] | None = None
    separate: bool = True
    top: int = -1
    ended: bool = False

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal; nothing happens when it is dead."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except OSError:  # whoever expects an answer from it will notice
            return

    def go_on(self) -> None:
        """Lets it run, because it is to obey an order."""
        self.signal(signal.SIGCONT)

    def rest(self) -> None:
        """Stops it, because it has obeyed."""
        self.signal(signal.SIGSTOP)

    def processor_time(self) -> float:
        """Returns the seconds of processor time it has used so far; 0 when it is dead."""
        try:
            return time.clock_gettime(~self.pid << 3 | _PROCESSOR_TIME)
        except OSError:
            return 0.0

    def has_ended(self, seconds: float) -> bool:
        """Waits until it is dead and its memory freed; returns whether it is."""
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def close(self) -> None:
        """Frees what this process holds of it; for its only user."""
        self.channel.close()
        for file in (self.pidfd, self.top):
            if file >= 0:
                os.close(file)
        self.pidfd = self.top = -1


def inner_pid(pidfd: int) -> int:
    """Returns the pid of a process in its own, innermost namespace.

    Args:
        pidfd: a descriptor of the process.

    Raises:
        OSError: no descriptor is left.
        CloneError: it is gone.
    """
    file = os.open(f"/proc/self/fdinfo/{pidfd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        pids = os.read(file, 4096).partition(b"NSpid:")[2].split()
    finally:
        os.close(file)
    if not pids or pids[-1] == b"-1":
        raise CloneError("The new interpreter died at once.")
    return int(pids[-1])
