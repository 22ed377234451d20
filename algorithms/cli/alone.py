"""One command at a time on a run, or on a file of answers: a lock that ends with its process, even with a killed one.

What is locked is there already, a folder or a file that is never replaced, so that a run leaves nothing behind for it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arpo_envs import ConfigError

_held: set[int] = set()
"""Descriptors of the locks that this process holds."""


@contextmanager
def alone(path: Path, about: Path | None = None) -> Iterator[None]:
    """Keeps other commands away while this one is at work; waits for nobody.

    Args:
        path: of the folder or file to lock; if it cannot be opened, nobody is kept away.
        about: what the commands are at work on, for the message; by default that path.

    Raises:
        ConfigError: another process has the lock.
    """
    try:
        lock = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # over NFS, a file must be open for writing
    except OSError:  # whoever needs it says what is wrong with it
        yield
        return
    _held.add(lock)
    try:
        if not taken(lock):
            raise ConfigError(
                f"Another command is at work on {about or path}: wait until it has ended, or stop it, and then try again."
            )
        yield
    finally:
        if lock in _held:  # a forked process has let go of it
            _held.remove(lock)
            os.close(lock)


def taken(lock: int) -> bool:
    """Takes a lock if it is free, and returns whether it was; where the file system knows no locks, it always is.

    Args:
        lock: file descriptor; the lock is free again when the last process that has a copy of it has closed it or ended.
    """
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _let_go() -> None:
    """Closes what a fork has copied: or a worker that outlives a killed command would keep the lock."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)
