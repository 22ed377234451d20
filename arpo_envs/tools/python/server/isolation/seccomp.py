"""Installs a system call filter on the calling process; it is inherited by every fork and never removed."""

import contextlib
import ctypes
import errno
import os
import struct

from . import kernel, limits
from .allowlist import session_filter

_SET_MODE_FILTER = 1
_NEW_LISTENER = 1 << 3
_WAIT_KILLABLE = 1 << 5  # while the supervisor decides, only fatal signals interrupt; since Linux 5.19


def install(program: bytes) -> int:
    """Installs a filter and returns the descriptor on which its notifications arrive.

    Args:
        program: machine code, see `bpf.assemble`.

    Raises:
        OSError: the kernel refuses; without no_new_privs it requires CAP_SYS_ADMIN.
    """
    code = ctypes.create_string_buffer(program, len(program))
    description = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    try:
        listener = kernel.call("seccomp", _SET_MODE_FILTER, _NEW_LISTENER | _WAIT_KILLABLE, description)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        listener = kernel.call("seccomp", _SET_MODE_FILTER, _NEW_LISTENER, description)
    return listener  # the kernel has set close-on-exec


def install_session_filter(*, private_root: bool = False) -> int:
    """Installs the sessions' allow-list and returns the listener's descriptor.

    Args:
        private_root: the process sees no files of the host; see `allowlist.verdicts`.

    Raises:
        OSError: the kernel refuses, or there is no table for this architecture.
    """
    if _SESSION_FILTERS is None:
        raise OSError(errno.ENOSYS, f"no system call table for {os.uname().machine}")
    return install(_SESSION_FILTERS[private_root])


def _stack() -> range | None:
    """Returns where the main thread's stack is, and will be when it has grown; None if that cannot be seen."""
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            if line.rstrip().endswith("[stack]"):
                start, end = (int(number, 16) for number in line.split()[0].split("-"))
                return range(max(0, min(start, end - 2 * limits.STACK)), end)
    return None


def _assembled() -> tuple[bytes, bytes] | None:
    here = kernel.architecture()
    if here is None:
        return None
    stack = _stack()
    return session_filter(here, stack), session_filter(here, stack, private_root=True)


_SESSION_FILTERS = _assembled()  # once, not in every session; forks have their stack where this process has its own
