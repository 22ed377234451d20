"""What the supervisor knows about sessions, and about forks that are to become sessions."""

from dataclasses import dataclass

from .workdirs import Place


@dataclass(eq=False)
class Family:
    """Sessions that were cloned from one another; they share a seccomp filter, and so one listener."""

    folder: str
    members: int = 0
    listener: int | None = None


@dataclass(frozen=True)
class Branch:
    """The folder in which a session, its checkpoints and its clones have their working directories.

    Args:
        folder: its path.
        generation: how many branches it is nested in.
    """

    folder: str
    generation: int = 0


@dataclass(eq=False)
class Process:
    """A registered session process.

    Args:
        channel: the number of its socket to the host.
        place: its working directory; None if it needs none yet.
        original: the one it was forked from, until it is known to be separate.
        inherited: the working directory it was forked in.
        copied: whether that contained files.
    """

    pid: int
    pidfd: int
    family: Family
    branch: Branch
    channel: int
    place: Place | None = None
    original: "Process | None" = None
    inherited: Place | None = None
    copied: bool = False


@dataclass(eq=False)
class Window:
    """A fork that the host ordered and that is not registered yet.

    Args:
        channel: the number of the new process's socket to the host.
        source: the process that is forked; None for the template.
        original: the process it is a copy of; None for the template.
        kind: "open", "clone", "parked" or "checkpoint".
        copy: whether the new process should copy its original's files.
        is_used: whether the source has forked; it may do so once.
    """

    family: Family
    channel: int
    source: int | None = None
    original: Process | None = None
    kind: str = "open"
    copy: bool = False
    is_used: bool = False
