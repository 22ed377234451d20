"""Moves a server into namespaces of its own: users, processes, network, mounts, and the rest.

The calling process stays behind as a guardian; its child continues as process 1 of the new process namespace:
when that process ends, for whatever reason, the kernel kills every other process in the namespace.
"""

import contextlib
import ctypes
import errno
import os
import signal
from typing import NoReturn

from . import kernel, private_root
from .private_root import PrivateRoot

USER, PROCESS, NETWORK = 0x10000000, 0x20000000, 0x40000000
MOUNT, CGROUP, HOST_NAME, IPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
REQUIRED = USER | PROCESS | NETWORK | MOUNT | HOST_NAME | IPC

_HOST_NAME = b"sandbox"
_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG = 1, 2


def enter_namespaces(root: PrivateRoot) -> int:
    """Continues in a child process that sees nothing of the host; call it early, in a process with one thread.

    User and group keep their numbers. The calling process never returns: it waits for the child and exits
    with its status (128 plus the signal, if one killed it); the child is killed when the guardian dies. As
    process 1, the child only gets signals that it has a handler for, except SIGKILL from outside.

    Args:
        root: the files that the child sees.

    Returns:
        A descriptor of the new process namespace's proc file system, which is mounted nowhere. It leads to
        every process in there, so a session must not inherit it.

    Raises:
        OSError: the kernel refuses; the process, which may be halfway through, must not continue.
    """
    with contextlib.suppress(PermissionError):  # only root can, and only root has groups worth losing
        os.setgroups([])
    separate(REQUIRED, optional=CGROUP)
    for name in ("sethostname", "setdomainname"):
        kernel.call(name, _HOST_NAME, len(_HOST_NAME))
    gate, opened = os.pipe()
    child = os.fork()
    if child:
        _guard(child, opened)
    os.close(opened)
    kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if not os.read(gate, 1):  # the guardian died before it could bind us to its own end
        os._exit(1)
    os.close(gate)
    return private_root.enter(root)


def separate(namespaces: int, optional: int = 0, processes: int | None = None) -> None:
    """Leaves the named namespaces for new ones, with the same user and group inside.

    Args:
        namespaces: flags, `USER` among them.
        optional: flags of those that a kernel may lack.
        processes: a descriptor of the proc file system, if it is not mounted.

    Raises:
        OSError: the kernel refuses, or there are other threads (EINVAL).
    """
    user, group = os.geteuid(), os.getegid()
    dies_with_parent = ctypes.create_string_buffer(4)
    kernel.call("prctl", _PR_GET_PDEATHSIG, dies_with_parent)
    try:
        kernel.call("unshare", namespaces | optional)
    except OSError as error:
        if not optional or error.errno not in (errno.EINVAL, errno.ENOSPC):
            raise
        kernel.call("unshare", namespaces)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        file = os.open(f"{'/proc/' if processes is None else ''}self/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=processes)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)
    kernel.prctl(_PR_SET_PDEATHSIG, int.from_bytes(dies_with_parent.raw, "little"))  # new credentials reset it


def _guard(child: int, opened: int) -> NoReturn:
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the host's business
        os.write(opened, b"1")
        os.closerange(3, 1 << 20)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        status = code if code >= 0 else 128 - code
    finally:
        os._exit(status)
