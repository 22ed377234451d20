"""Goes on as a user without rights, in the middle of a program that was started by root."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

NOBODY = 65534
_NEW_MOUNTS = 0x20000


def drop_rights(checkout: Path, again: Sequence[str]) -> None:
    """Goes on as a user without rights, who may have to be let through to the interpreter and to this checkout first.

    Args:
        checkout: what the user must be able to read, besides the interpreter.
        again: the arguments with which this program is started again.

    Raises:
        OSError: this root cannot do it.
    """
    let_through([Path(sys.base_prefix), Path(sys.prefix), checkout, Path(os.path.realpath(sys.executable)).parent])
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.chdir("/")
    os.execv(sys.executable, [sys.executable, "-W", "error", *again])


def let_through(paths: Sequence[Path]) -> None:
    """Lays an open folder over every one on the way to `paths` that is closed to others, in a mount namespace of its own."""
    from arpo_envs.tools.python.server.isolation import kernel, mounts

    closed = {parent: path for path in paths for parent in path.parents if not parent.stat().st_mode & 0o001}
    if not closed:
        return
    kernel.call("unshare", _NEW_MOUNTS)
    mounts.keep_mounts_private()
    wanted = [path for path in dict.fromkeys(paths) if not set(path.parents).isdisjoint({*closed, *paths} & set(closed))]
    trees = [(path, mounts.copy_of(str(path), 0)) for path in sorted(wanted)]
    for folder in sorted(folder for folder in closed if not set(folder.parents) & set(closed)):
        mounts.mount_memory(str(folder), "size=1m,mode=755", 0)
    for path, tree in trees:
        if path.exists():  # it lies below one that is there already
            os.close(tree)
            continue
        path.mkdir(parents=True)
        mounts.attach(tree, str(path))
