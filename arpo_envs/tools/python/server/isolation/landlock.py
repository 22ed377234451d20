"""Landlock restricts, voluntarily and irrevocably, which files this process may open.

It stops the use of files, not `stat`. If the kernel is new enough, it also refuses TCP, and signals and
abstract Unix sockets that cross its boundary.
"""

import contextlib
import os
import stat
import struct
from collections.abc import Sequence

from . import kernel

_open, _close, _fstat = os.open, os.close, os.fstat  # bound at import: a clone narrows itself after a model's code

NEWEST = 7  # what this module knows; newer kernels are used like this one

_CREATE_VERSION = 1
_RULE_PATH_BENEATH = 1

(_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE, _MAKE_CHAR, _MAKE_DIR) = (1 << i for i in range(8))
(_MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM, _REFER, _TRUNCATE, _IOCTL_DEV) = (1 << i for i in range(8, 16))
_SINCE = {1: _REFER - 1, 2: _REFER, 3: _TRUNCATE, 5: _IOCTL_DEV}  # rights by the ABI that brought them
_TCP = 0b11  # bind, connect; ABI 4
_SCOPES = 0b11  # abstract unix sockets, signals; ABI 6
_QUIETLY = 1  # what a model's code tries should not fill the machine's audit log; ABI 7

_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_FIFO | _MAKE_SYM | _REFER | _TRUNCATE
_DEVICES = {
    "/dev/null": _READ_FILE | _WRITE_FILE | _TRUNCATE,
    "/dev/full": _READ_FILE | _WRITE_FILE | _TRUNCATE,
    "/dev/zero": _READ_FILE,
    "/dev/random": _READ_FILE,
    "/dev/urandom": _READ_FILE,
}


def abi() -> int:
    """Returns the kernel's Landlock version.

    Raises:
        OSError: ENOSYS if the kernel has none, EOPNOTSUPP if it was disabled at boot.
    """
    return kernel.call("landlock_create_ruleset", None, 0, _CREATE_VERSION)


def handled(version: int) -> int:
    """Returns all file rights that a version knows."""
    return sum(rights for since, rights in _SINCE.items() if since <= version)


def restrict(readable: Sequence[str], listable: Sequence[str], writable: str) -> None:
    """Leaves the calling process only these files and five harmless devices.

    Args:
        readable: files and folders that may be read, with their contents; those that do not exist are skipped.
        listable: folders in which names may be listed, at any depth.
        writable: a folder in which nearly everything is allowed; no sockets, no devices, no programs.

    Raises:
        OSError: the kernel refuses, or `writable` does not exist; no_new_privs must be set first.
    """
    version = min(abi(), NEWEST)
    rights = handled(version)
    attributes = struct.pack("=Q", rights)
    if version >= 4:
        attributes += struct.pack("=Q", _TCP)
    if version >= 6:
        attributes += struct.pack("=Q", _SCOPES)
    ruleset = kernel.call("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        _allow(ruleset, writable, _WRITE & rights)
        for path, allowed in (
            *dict.fromkeys(readable, _READ).items(),
            *dict.fromkeys(listable, _READ_DIR).items(),
            *_DEVICES.items(),
        ):
            with contextlib.suppress(FileNotFoundError):
                _allow(ruleset, path, allowed & rights)
        kernel.call("landlock_restrict_self", ruleset, _QUIETLY if version >= 7 else 0)
    finally:
        _close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    file = _open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(_fstat(file).st_mode):
            rights &= _ON_FILES
        kernel.call("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, file), 0)
    finally:
        _close(file)
