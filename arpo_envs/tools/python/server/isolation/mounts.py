"""Mounts: size-limited working directories, and the calls that a private root is built with."""

import os
import struct

from . import kernel

NOSUID, NODEV, NOEXEC = 0x2, 0x4, 0x8  # the same numbers for `mount` and as attributes
READ_ONLY = 0x1
_MOVE, _RECURSIVE, _PRIVATE = 0x2000, 0x4000, 1 << 18
_DETACH, _NO_FOLLOW = 0x2, 0x8
_HERE = -100  # AT_FDCWD: paths as usual
_EMPTY_PATH, _WITH_SUBMOUNTS = 0x1000, 0x8000
_CLONE_TREE = 1
_FROM_DESCRIPTOR = 4


def mount_workdir(path: str, *, megabytes: int, inodes: int) -> None:
    """Mounts an empty, size-limited memory file system that only its owner may enter.

    Args:
        path: an existing folder.
        megabytes: mebibytes it may hold.
        inodes: files and folders it may hold.

    Raises:
        OSError: the kernel refuses.
    """
    options = f"size={megabytes}m,nr_inodes={inodes + 1},mode=700"  # the folder itself takes one
    mount_memory(path, options, NOSUID | NODEV | NOEXEC)


def unmount_workdir(path: str) -> None:
    """Unmounts a working directory's file system; its content disappears with the last process that uses it.

    Raises:
        OSError: nothing is mounted there.
    """
    unmount(path)


def move_aside(path: str, aside: str) -> None:
    """Moves what is mounted at a path to another one, where it is read-only."""
    kernel.call("mount", os.fsencode(path), os.fsencode(aside), None, _MOVE, None)
    make_read_only(aside)


def mount_memory(path: str, options: str, flags: int) -> None:
    """Mounts a tmpfs."""
    kernel.call("mount", b"tmpfs", os.fsencode(path), b"tmpfs", flags, options.encode())


def mount_processes(path: str) -> None:
    """Mounts the proc file system of this process's process namespace."""
    kernel.call("mount", b"proc", os.fsencode(path), b"proc", NOSUID | NODEV | NOEXEC, None)


def unmount(path: str) -> None:
    """Unmounts what is mounted at a path, at once for everyone who uses the path."""
    kernel.call("umount2", os.fsencode(path), _DETACH | _NO_FOLLOW)


def keep_mounts_private() -> None:
    """Makes sure that no mount of this mount namespace is ever seen outside it."""
    kernel.call("mount", None, b"/", None, _RECURSIVE | _PRIVATE, None)


def copy_of(path: str, attributes: int) -> int:
    """Returns a descriptor of a detached copy of the mounts at a path.

    Args:
        path: a file or a folder.
        attributes: restrictions for the copy and the mounts below it.
    """
    tree = kernel.call("open_tree", _HERE, os.fsencode(path), _CLONE_TREE | os.O_CLOEXEC | _WITH_SUBMOUNTS)
    try:
        _restrict(tree, b"", attributes, _EMPTY_PATH | _WITH_SUBMOUNTS)
    except OSError:
        os.close(tree)
        raise
    return tree


def attach(tree: int, path: str) -> None:
    """Mounts what `copy_of` returned, and closes its descriptor."""
    try:
        kernel.call("move_mount", tree, b"", _HERE, os.fsencode(path), _FROM_DESCRIPTOR)
    finally:
        os.close(tree)


def make_read_only(path: str) -> None:
    """Makes one mount read-only, but not those below it."""
    _restrict(_HERE, os.fsencode(path), READ_ONLY, 0)


def make_root(path: str) -> None:
    """Makes a mount the root of this mount namespace and unmounts the old root."""
    os.chdir(path)
    kernel.call("pivot_root", b".", b".")  # the old root now lies on top of the new one
    kernel.call("umount2", b".", _DETACH)
    os.chdir("/")


def _restrict(folder: int, path: bytes, attributes: int, flags: int) -> None:
    wanted = struct.pack("=4Q", attributes, 0, 0, 0)
    kernel.call("mount_setattr", folder, path, flags, wanted, len(wanted))
