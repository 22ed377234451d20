"""What the sessions of a server may take: how many there may be, how long they may wait, and how much memory they may take."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """What the sessions of one server may take.

    Args:
        sessions: live ones; copies count.
        idle_seconds: without a call, after which a session is closed.
        memory_mb: mebibytes of the server and the processes below it, above which no session is opened or copied; where
            the system has no `/proc`, nothing is measured.
    """

    sessions: int = 64
    idle_seconds: float = 900.0
    memory_mb: int = 8192

    def __post_init__(self) -> None:
        if min(self.sessions, self.idle_seconds, self.memory_mb) <= 0:
            raise ConfigError(f"Limits must be positive: {self}.")


def memory_taken(process: str = "self") -> int:
    """Returns the mebibytes of a process and those below it, shared pages counted once; 0 where there is no `/proc`."""
    folder = Path("/proc") / process
    total = 0
    try:
        for line in (folder / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total = int(line.split()[1]) >> 10
        children = [child for task in (folder / "task").iterdir() for child in (task / "children").read_text().split()]
    except (OSError, ProcessLookupError):  # no /proc, or the process has just ended
        return total
    return total + sum(map(memory_taken, children))
