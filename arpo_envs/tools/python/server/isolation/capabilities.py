"""Gives up capabilities of the calling process, also for programs it might start."""

import contextlib
import ctypes
import errno
import struct
from collections.abc import Collection

from . import kernel

_PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_SET_NO_NEW_PRIVS = 24, 47, 38
_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522
_MOST = 64  # the sets have 64 bits
SYS_ADMIN = 21
"""What a fork into its own mount namespace needs. A session has it in a user namespace that owns only such namespaces."""


def drop_all_but(kept: Collection[int] = ()) -> None:
    """Empties the bounding, ambient, permitted, effective and inheritable sets, except for what is kept.

    Emptying the bounding set itself needs a capability. A process without any cannot do it, and need not:
    with no_new_privs, no program gives it any.

    Args:
        kept: capabilities that the process has and keeps; a program that it starts would not have them.

    Raises:
        OSError: the kernel refuses.
    """
    for capability in range(_MOST):
        try:
            kernel.prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM):  # past the last one; not allowed
                raise
            break
    with contextlib.suppress(OSError):  # a kernel without ambient capabilities
        kernel.prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    bits = sum(1 << capability for capability in kept)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    kernel.call("capset", struct.pack("=Ii", _VERSION_3, 0), struct.pack("=6I", low, low, 0, high, high, 0))


def forbid_new_privileges() -> None:
    """Makes set-user-id programs and file capabilities ineffective, irrevocably.

    Raises:
        OSError: the kernel refuses.
    """
    kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)


def held() -> tuple[int, int, int]:
    """Returns the calling process's effective, permitted and inheritable sets, as bits."""
    data = ctypes.create_string_buffer(24)
    kernel.call("capget", struct.pack("=Ii", _VERSION_3, 0), data)
    low, high = struct.unpack("=3I", data.raw[:12]), struct.unpack("=3I", data.raw[12:])
    return (low[0] | high[0] << 32, low[1] | high[1] << 32, low[2] | high[2] << 32)
