"""Resource limits of one process, both soft and hard, so they can only be lowered."""

import resource
from dataclasses import dataclass

_ADDRESS_SPACE = 4 << 30
"""Bytes of address space beyond the memory limit: libraries, files mapped for reading, and gaps."""
STACK = 8 << 20
"""Bytes to which the stack may grow."""
_CORE = 1
"""Bytes of a core dump. Not 0: only with exactly 1 does the kernel also skip the dump to a program that handles them."""


@dataclass(frozen=True)
class Limits:
    """What one process may use.

    Args:
        memory_bytes: bytes of private writable memory.
        cpu_seconds: seconds of processor time, after which it is killed.
        file_bytes: bytes in one file.
        open_files: number of descriptors.
    """

    memory_bytes: int
    cpu_seconds: int
    file_bytes: int
    open_files: int


def apply(limits: Limits) -> None:
    """Limits the calling process; a hard limit that is already lower stays.

    Raises:
        OSError: the kernel refuses.
    """
    wanted = {
        resource.RLIMIT_DATA: limits.memory_bytes,
        resource.RLIMIT_AS: limits.memory_bytes + _ADDRESS_SPACE,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_CORE: _CORE,
        resource.RLIMIT_STACK: STACK,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
