"""A mount namespace per session, in which its working directory has the same path as in every other session.

Only the supervisor mounts anything: it enters a session's namespace for a moment. A session cannot, although it is born into
its namespace by a fork for which it needs a capability (`capabilities.SYS_ADMIN`): its filter refuses every call but that
fork, and its user namespace owns nothing but the mounts of sessions.
"""

import contextlib
import os
from collections.abc import Callable, Iterator

from . import kernel, mounts
from .namespaces import MOUNT, USER, separate


def enter_user_namespace(processes: int) -> None:
    """Continues in the user namespace of sessions: its forks may give up rights there, and have none elsewhere.

    Args:
        processes: a descriptor of the proc file system.

    Raises:
        OSError: the kernel refuses.
    """
    separate(USER | MOUNT, processes=processes)


class OwnMounts:
    """Changes what sessions have mounted; call it in the process that made the private root.

    Args:
        root: the folder in which the two places are made; no more can be made there.
        processes: a descriptor of the proc file system.
        mount: mounts an empty working directory on a folder.

    Raises:
        OSError: the kernel refuses.
    """

    def __init__(self, root: str, processes: int, mount: Callable[[str], None]) -> None:
        self.path, self.aside = f"{root}/session", f"{root}/original"
        self._mount = mount
        self._home = os.open("self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=processes)
        for place in (self.path, self.aside):
            os.mkdir(place, 0)
        mounts.make_read_only(root)

    def give(self, process: int, *, first: bool, keep: bool) -> int:
        """Gives a session a new, empty working directory at `path`, and returns a descriptor of it.

        Args:
            process: a pidfd of the session.
            first: it has none yet, not even its original's.
            keep: leave its original's at `aside`, to be read, until `take_aside`.

        Raises:
            OSError: it is gone, or the kernel refuses.
        """
        with self._inside(process):
            if keep:
                mounts.move_aside(self.path, self.aside)
            elif not first:
                mounts.unmount(self.path)
            self._mount(self.path)
            return os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def take_aside(self, process: int) -> None:
        """Unmounts what `give` has left at `aside`.

        Raises:
            OSError: it is gone.
        """
        with self._inside(process):
            mounts.unmount(self.aside)

    @contextlib.contextmanager
    def _inside(self, process: int) -> Iterator[None]:
        kernel.call("setns", process, MOUNT)
        try:
            yield
        finally:
            try:
                kernel.call("setns", self._home, MOUNT)
            except OSError as error:  # not a session's doing: the server must end
                raise RuntimeError(f"The server cannot come back from a session's mounts: {error}") from error
