"""Forks a sibling: a copy of this process that has the same parent.

`os.fork` makes a child, and a child dies with its parent's place in the family: it would need a second fork to
be adopted, which costs as much as the first. The C library's own fork handlers do not run; a process with one
thread needs none of them.
"""

import ctypes
import os
import signal

_CLONE_PARENT, _CHILD_SETTID, _CHILD_CLEARTID, _CLONE_NEWNS = 0x8000, 0x01000000, 0x00200000, 0x00020000
FLAGS = _CLONE_PARENT | _CHILD_SETTID | _CHILD_CLEARTID | signal.SIGCHLD
"""What the kernel is asked for; a supervisor allows no other fork."""
FLAGS_WITH_MOUNTS = FLAGS | _CLONE_NEWNS
"""The same, where each session has a mount namespace of its own."""

_PR_GET_TID_ADDRESS = 40
_NUMBERS = {"x86_64": 56, "aarch64": 220}


class Forker:
    """Forks this process each time it is called.

    Make it before the process is confined; it works in the forks as well.

    Args:
        flags: `FLAGS` or `FLAGS_WITH_MOUNTS`.

    Raises:
        OSError: this machine's architecture is unknown.
    """

    def __init__(self, flags: int = FLAGS) -> None:
        number = _NUMBERS.get(os.uname().machine)
        if number is None:
            raise OSError(f"forking a sibling is not known on {os.uname().machine}")
        library = ctypes.PyDLL(None, use_errno=True)  # unlike CDLL, it holds the interpreter's lock
        self._system_call = library.syscall
        self._system_call.restype = ctypes.c_long
        self._before = ctypes.pythonapi.PyOS_BeforeFork
        self._in_parent = ctypes.pythonapi.PyOS_AfterFork_Parent
        self._in_child = ctypes.pythonapi.PyOS_AfterFork_Child
        self._get_errno = ctypes.get_errno
        for function in (self._before, self._in_parent, self._in_child):
            function.restype = None
        place = ctypes.c_void_p()  # where the C library keeps the thread's id
        library.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(place), 0, 0, 0)
        # x86_64 expects the place fourth, aarch64 fifth; the other argument is ignored. Without it, the id stays the
        # parent's, which only matters for locks between threads.
        self._arguments = [ctypes.c_long(value) for value in (number, flags, 0, 0, place.value or 0, place.value or 0)]

    def __call__(self) -> int:
        """Returns the new process's id, and 0 in the new process.

        Raises:
            OSError: the kernel or the supervisor refuses.
        """
        self._before()
        pid = int(self._system_call(*self._arguments))
        if pid == 0:
            self._in_child()
            return 0
        error = self._get_errno()
        self._in_parent()
        if pid < 0:
            raise OSError(error, os.strerror(error))
        return pid
