"""System calls by name through ctypes, with errors as `OSError`."""

import ctypes
import errno
import functools
import os
import platform
import sys
from typing import Any

from .syscalls import AARCH64, X86_64, Architecture

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

Argument = int | bytes | ctypes.Array[ctypes.c_char] | None


@functools.cache
def architecture() -> Architecture | None:
    """Returns the architecture this process's system calls belong to, or None if there is no table for it."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return None
    return {"x86_64": X86_64, "amd64": X86_64, "aarch64": AARCH64, "arm64": AARCH64}.get(platform.machine().lower())


def call(name: str, *arguments: Argument) -> int:
    """Makes one system call and returns its result.

    Args:
        name: the call's name, as in the kernel's headers.
        arguments: integers unchanged, bytes and buffers as pointers to them, None as a null pointer.

    Raises:
        OSError: the kernel refused, or there is no such call on this architecture (ENOSYS).
    """
    here = architecture()
    number = here.numbers.get(name) if here is not None else None
    if number is None:
        raise OSError(errno.ENOSYS, f"no system call {name!r} for this architecture")
    result: int = _libc.syscall(ctypes.c_long(number), *(_as_word(argument) for argument in arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def prctl(option: int, *arguments: int) -> int:
    """Makes the call `prctl` with the missing arguments set to 0, as newer options demand."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return call("prctl", option, *padded)


def _as_word(argument: Argument) -> Any:
    if isinstance(argument, int):
        return ctypes.c_long(argument)
    if isinstance(argument, ctypes.Array):
        return argument
    return ctypes.c_char_p(argument)
