"""The supervisor's side of a filter's listener: which process asks for a fork, and the answer.

Call `receive` only when the listener polls readable: when no process has the filter any more, some kernels
would wait forever. A verdict must not depend on the memory of the process that asks.
"""

import contextlib
import ctypes
import errno
import fcntl
import functools
import struct
from dataclasses import dataclass

from . import kernel

_RECEIVE, _SEND, _VALID, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082102, 0x40082104
_SYNC_WAKE_UP = 1
_GET_SIZES = 3
_CONTINUE = 1
_REQUEST = struct.Struct("=QII iIQ6Q")  # id, pid, flags, and the call: number, architecture, instruction, arguments
_RESPONSE = struct.Struct("=QqiI")  # id, value, error, flags
_GONE = (errno.ENOENT, errno.EINPROGRESS)


@dataclass(frozen=True)
class Notification:
    """A process that waits for a verdict.

    Args:
        id: names the notification.
        pid: the process, as seen in the reader's process namespace; 0 if it is not visible there.
        syscall: the number of the call.
        args: the call's arguments.
    """

    id: int
    pid: int
    syscall: int
    args: tuple[int, ...]


def wake_at_once(listener: int) -> None:
    """Has the kernel pass the processor directly between asker and answerer, if it can (Linux 6.6)."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)


def receive(listener: int) -> Notification | None:
    """Returns the next notification, or None if the process that asked has died.

    Raises:
        OSError: this is not a listener.
    """
    buffer = bytearray(_sizes()[0])
    try:
        fcntl.ioctl(listener, _RECEIVE, buffer)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    name, pid, _, number, _, _, *arguments = _REQUEST.unpack_from(buffer)
    return Notification(name, pid, number, tuple(arguments))


def is_valid(listener: int, id: int) -> bool:
    """Says whether the process still waits, so its pid still means the same process."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(listener, _VALID, struct.pack("=Q", id))
        return True
    return False


def answer(listener: int, id: int, allow: bool) -> bool:
    """Lets the call happen, or fail with EPERM; returns False if the process has died meanwhile.

    Raises:
        OSError: this is not a listener.
    """
    response = bytearray(max(_sizes()[1], _RESPONSE.size))
    _RESPONSE.pack_into(response, 0, id, 0, *((0, _CONTINUE) if allow else (-errno.EPERM, 0)))
    try:
        fcntl.ioctl(listener, _SEND, response)
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
    return True


@functools.cache
def _sizes() -> tuple[int, int]:
    """Returns the kernel's sizes of a request and of a response; newer kernels may have longer ones."""
    sizes = ctypes.create_string_buffer(6)
    kernel.call("seccomp", _GET_SIZES, 0, sizes)
    request, response, _ = struct.unpack("=HHH", sizes.raw)
    return max(request, _REQUEST.size), max(response, _RESPONSE.size)
