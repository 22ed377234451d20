"""A session's process: reads orders, runs cells, forks itself when told to.

Everything here shares its process with a model's code. So nothing outside believes what it says, and it binds
what it needs when it is imported, so that code which spoils a module spoils only its own session.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NoReturn

from .cell import Notebook
from .copying import copy_tree
from .frames import Channel, ChannelError
from .open_files import detach, openings

HELLO = {"hello": True}
_PR_SET_PDEATHSIG, _SIGKILL = 1, int(signal.SIGKILL)

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_exit, _close, _getppid, _chdir, _socket = os._exit, os.close, os.getppid, os.chdir, socket.SocketType
_getcwd = os.getcwd


class SessionProcess:
    """The loop of one session.

    Args:
        channel: to the host.
        notebook: where cells run.
        workdir: the working directory.
        parent: the process that every session is a child of.
        fork: forks a sibling.
        seed: makes all random generators a function of a number.
        narrow: gives up all files but those below a folder; None where Landlock is not used.
    """

    def __init__(
        self,
        channel: Channel,
        notebook: Notebook,
        workdir: str,
        parent: int,
        fork: Callable[[], int],
        seed: Callable[[int], None],
        narrow: Callable[[str], None] | None,
    ) -> None:
        self._narrow, self._branch = narrow, ""  # "" once it was narrowed to its branch
        self.channel, self.notebook, self.parent, self._fork = channel, notebook, parent, fork
        self.workdir = ""
        self._seed = seed
        self.move(workdir)

    def loop(self) -> NoReturn:
        """Says hello, then obeys until the host is gone.

        A clone returns from `_obey` as well, with another channel, so that the stack never grows.
        """
        try:
            self.channel.send(HELLO)
            while True:
                order = self.channel.receive()
                reply = self._obey(order)
                self.channel.send(reply | {"nonce": order["nonce"]})
        except ChannelError:
            _exit(0)
        except BaseException:  # noqa: BLE001  # a model's code has broken something: the host goes on from a checkpoint
            _exit(70)

    def _obey(self, order: dict[str, Any]) -> dict[str, Any]:
        if self._branch and self._narrow is not None:  # not before it is needed: many copies are never used
            self._narrow(self._branch)
        self._branch = ""
        what = order["op"]
        if what == "exec":
            return self._run(order)
        if what == "fork":
            return self._copy(order)
        if what == "rehearse":
            with contextlib.suppress(MemoryError):
                self.notebook.rehearse()
            return {}
        if what == "seed":
            self._seed(order["seed"])
            return {}
        if what == "move":
            self.move(order["workdir"])
            return {}
        raise ValueError(what)

    def _run(self, order: dict[str, Any]) -> dict[str, Any]:
        try:
            text, error = self.notebook.run(order["code"], order["timeout"])
        except MemoryError:
            text, error = "MemoryError", "error"
        return {"text": text, "error": error}

    # --- forks ------------------------------------------------------------------------------------

    def _copy(self, order: dict[str, Any]) -> dict[str, Any]:
        """Forks; the new process goes on with the channel and in the directory that it was given."""
        file = self.channel.files.pop()
        found = openings({_socket.fileno(self.channel.sock), file})
        try:
            child = self._fork()
        except OSError as error:
            _close(file)
            return {"failed": f"the fork was refused: {error.strerror}"}
        if child:
            _close(file)
            return {}
        self.channel.close()
        self.channel = Channel(_socket(fileno=file), limit=self.channel.limit)
        die_with_parent(self.parent)
        try:
            old, new = self.workdir, order["workdir"]
            if new is not None and order["copy"]:
                copy_tree(old, new)
            detach(found, old, new)
            if new is not None:
                self.move(new)
            self._branch = order["branch"] or self._branch
        except OSError as error:
            return {"failed": f"the working directory could not be copied: {error.strerror}"}
        return HELLO

    # --- the working directory ------------------------------------------------------------------------

    def move(self, workdir: str) -> None:
        """Makes `workdir` the working directory, the home, and the place of temporary files and of imports.

        Whoever was in a folder of the old one is then in the same folder of the new one, if it is there.
        """
        old, self.workdir = self.workdir, workdir
        inside = self._inside(old)
        _chdir(workdir)
        if inside:
            with contextlib.suppress(OSError):
                _chdir(workdir + inside)
        self.notebook.hidden = (workdir, *self.notebook.hidden)
        with contextlib.suppress(Exception):  # a model's code may have replaced any of these
            os.environ["HOME"] = os.environ["TMPDIR"] = workdir
            if not old or tempfile.tempdir in (None, old):
                tempfile.tempdir = workdir
            if old in sys.path:
                sys.path[sys.path.index(old)] = workdir
            elif not old:
                sys.path.insert(0, workdir)

    @staticmethod
    def _inside(workdir: str) -> str:
        """Returns where in a working directory this process is: "/a/b", or "" when it is at its top or elsewhere."""
        try:
            here = _getcwd()
        except OSError:  # it was removed, or lies too deep
            return ""
        return here[len(workdir) :] if workdir and here.startswith(f"{workdir}/") else ""


def die_with_parent(parent: int) -> None:
    """Asks the kernel to kill this process when its parent ends; dies at once if it already has."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if _getppid() != parent:
        _exit(0)
