"""Keeps this machine from what is run without isolation, or with a broken one: it has files of its own to spoil."""

import fcntl
import os
import socket
import struct
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
_WRITABLE = ("/tmp", "/var/tmp", "/dev/shm", "/root", "/home")
_HERE, _RECURSIVE = -100, 0x8000


def shut(size: str) -> None:
    """Makes all files read-only, and lays empty folders over those in which programs write.

    Call it in new namespaces for mounts, processes and the network; the interpreter and this checkout stay where they are.

    Args:
        size: of each empty folder, as a mount option.
    """
    from arpo_envs.tools.python.server.isolation import kernel, mounts

    mounts.keep_mounts_private()
    read_only = struct.pack("=4Q", mounts.READ_ONLY, 0, 0, 0)
    kernel.call("mount_setattr", _HERE, b"/", _RECURSIVE, read_only, len(read_only))
    needed = sorted({str(CHECKOUT), sys.prefix, sys.base_prefix})
    for path in _WRITABLE:
        kept = [(place, mounts.copy_of(place, 0)) for place in needed if place.startswith(f"{path}/")]
        if os.path.isdir(path):
            mounts.mount_memory(path, f"{size},mode=777", 0)
        for place, tree in kept:
            if os.path.exists(place):  # it lies below one that is there already
                os.close(tree)
                continue
            os.makedirs(place)
            mounts.attach(tree, place)
    mounts.mount_processes("/proc")
    with socket.socket() as sock:  # the loopback interface is switched on
        fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", b"lo", 0x1))


def lay_over(path: str) -> None:
    """Has a file replaced by a copy that may be changed, and a device by an empty file; call `shut` before."""
    from arpo_envs.tools.python.server.isolation import mounts

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        copy = Path(folder, "copy")
        copy.write_bytes(Path(path).read_bytes() if os.path.isfile(path) else b"")
        mounts.attach(mounts.copy_of(str(copy), 0), path)


def lay_changes_over(path: str) -> None:
    """Has a folder take changes, which are kept elsewhere; call `shut` before. Only root can do this."""
    from arpo_envs.tools.python.server.isolation import kernel

    above, work = tempfile.mkdtemp(dir="/tmp"), tempfile.mkdtemp(dir="/tmp")
    os.chmod(above, os.stat(path).st_mode & 0o7777)
    options = f"lowerdir={path},upperdir={above},workdir={work}"
    kernel.call("mount", b"overlay", path.encode(), b"overlay", 0, options.encode())
