"""What the supervisor knows of sessions, and of forks that are to become sessions."""

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
        generation: how many branches it lies in.
    """

    folder: str
    generation: int = 0


@dataclass(eq=False)
class Process:
    """A registered session process.

    Args:
        channel: the number of its socket to the host.
        place: its working directory; None if it needs none yet.
        original: the one that it was forked from, until it is known to be separate.
        inherited: the working directory that it was forked in.
        copied: there were files in that.
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
        source: who is forked; None when it is the template.
        original: whose copy it is; None if it is the template's.
        kind: "open", "clone", "parked" or "checkpoint".
        copy: the new process shall copy its original's files.
        is_used: the source has forked; it may do so once.
    """

    family: Family
    channel: int
    source: int | None = None
    original: Process | None = None
    kind: str = "open"
    copy: bool = False
    is_used: bool = False
