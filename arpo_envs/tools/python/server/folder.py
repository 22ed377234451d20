"""The folder of a server on the host's own file system, where there is no mount namespace to hide one in.

A lock on a file in it shows that the server is alive, so what a killed server left behind is found and removed.
"""

import contextlib
import fcntl
import os
import stat
import tempfile

from .workdirs import CLOSED, remove_tree

PREFIX = "arpo-python-"
_LOCK = "lock"


def make_folder() -> tuple[str, int]:
    """Returns the path of a new folder and the descriptor that holds its lock; stale ones are removed first."""
    remove_stale_folders()
    path = os.path.realpath(tempfile.mkdtemp(prefix=PREFIX))  # as the kernel shows it
    lock = os.open(f"{path}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.mkdir(sessions_of(path), CLOSED)
    os.mkdir(packages_of(path), 0o755)
    os.chmod(path, CLOSED)
    return path, lock


def sessions_of(path: str) -> str:
    """Returns where in a server's folder the working directories are."""
    return f"{path}/sessions"


def packages_of(path: str) -> str:
    """Returns where in a server's folder links to packages are."""
    return f"{path}/packages"


def remove_folder(path: str) -> None:
    """Removes a server's folder and everything in it."""
    for folder in (path, sessions_of(path)):
        with contextlib.suppress(OSError):
            os.chmod(folder, 0o700)
    remove_tree(path)


def remove_stale_folders() -> None:
    """Removes the folders of this user's servers that are dead."""
    parent = tempfile.gettempdir()
    with contextlib.suppress(OSError):
        for name in os.listdir(parent):
            path = f"{parent}/{name}"
            if name.startswith(PREFIX) and _is_stale(path):
                remove_folder(path)


def _is_stale(path: str) -> bool:
    """Whether a folder is ours and its lock is not held; one without a lock is being made or removed right now."""
    try:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return False
        lock = os.open(f"{path}/{_LOCK}", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
