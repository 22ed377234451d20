"""A session's process: reads orders, runs cells, forks itself when told to.

Everything here shares its process with a model's code. So nothing outside trusts what it says, and it binds
what it needs when it is imported, so that code that spoils a module spoils only its own session.
"""

import contextlib
import ctypes
import os
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Callable
from typing import Any, NoReturn

from .cell import Notebook
from .copying import copy_tree
from .frames import Channel, ChannelError
from .mappings import FileMapping
from .open_files import Opening, detach, openings

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
        parent: the parent process of every session.
        fork: forks a sibling.
        seed: makes all random generators a function of a number.
        narrow: gives up all files but those below a folder; None where Landlock is not used.
    """

    def __init__(
        self,
        channel: Channel,
        notebook: Notebook,
        parent: int,
        fork: Callable[[], int],
        seed: Callable[[int], None],
        narrow: Callable[[str], None] | None,
    ) -> None:
        self._narrow, self._branch = narrow, ""  # "" once narrowed to its branch
        self.channel, self.notebook, self.parent, self._fork = channel, notebook, parent, fork
        self.workdir = ""
        self._seed = seed
        self._inherited: list[Opening] = []

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
        except BaseException:  # noqa: BLE001  # a model's code has broken something: the host continues from a checkpoint
            _exit(70)

    def _obey(self, order: dict[str, Any]) -> dict[str, Any]:
        what = order["op"]
        if order.get("place") is not None:
            try:
                self._settle(order["place"])
            except OSError as error:
                return {"failed": f"the working directory could not be copied: {error.strerror}"}
        if what == "settle":
            return {}
        if self._branch and self._narrow is not None:  # not until it is needed: many copies are never used
            self._narrow(self._branch)
        self._branch = ""
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
        raise ValueError(what)

    def _run(self, order: dict[str, Any]) -> dict[str, Any]:
        try:
            text, error = self.notebook.run(order["code"], order["timeout"])
        except MemoryError:
            text, error = "MemoryError", "error"
        return {"text": text, "error": error}

    # --- forks ------------------------------------------------------------------------------------

    def _copy(self, order: dict[str, Any]) -> dict[str, Any]:
        """Forks; the new process continues with the channel that it was given, and learns its working directory there."""
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
        if order["copy"]:
            self._inherited = found
        else:
            detach(found, self.workdir, None)
            _chdir("/")
        return HELLO

    # --- the working directory ------------------------------------------------------------------------

    def _settle(self, place: dict[str, Any]) -> None:
        """Takes a working directory, with a copy of what was in the original's, if anything.

        A process that was in a folder of the original's is then in the same folder of the copy, if it is there.

        Raises:
            OSError: there is no room, or something else that is not the original's fault.
        """
        original, workdir, inside = place["original"], place["workdir"], ""
        if original is not None:
            inside = self._inside(original)
            copy_tree(original, workdir, self._numbered() if workdir == self.workdir else ())
            detach(self._inherited, original, workdir, [FileMapping(*row) for row in place["mappings"]])
            self._inherited = []
        _chdir(workdir)
        if inside:
            with contextlib.suppress(OSError):
                _chdir(workdir + inside)
        self._branch = place["branch"] or self._branch
        if workdir != self.workdir:
            self._move(workdir)

    def _numbered(self) -> set[int]:
        """Returns the numbers of the named files that the original has open."""
        return {each.kind.st_ino for each in self._inherited if stat.S_ISREG(each.kind.st_mode) and not each.is_deleted}

    def _move(self, workdir: str) -> None:
        """Makes `workdir` the home, and the place for temporary files and imports."""
        old, self.workdir = self.workdir, workdir
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
        except OSError:  # it was removed, or is too deep
            return ""
        return here[len(workdir) :] if workdir and here.startswith(f"{workdir}/") else ""


def die_with_parent(parent: int) -> None:
    """Asks the kernel to kill this process when its parent ends; dies at once if it already has."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if _getppid() != parent:
        _exit(0)
