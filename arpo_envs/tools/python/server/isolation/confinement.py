"""Confines a freshly forked session: everything a process can do to itself, in the right order."""

from collections.abc import Sequence
from dataclasses import dataclass

from . import capabilities, kernel, landlock, limits, namespaces, seccomp
from .report import Layers


@dataclass(frozen=True)
class Policy:
    """What a session keeps.

    Args:
        readable: files and folders it may read.
        listable: folders in which it may list the names.
        writable: the folder in which it may write.
        memory_bytes: bytes of private writable memory; shared memory is refused.
        cpu_seconds: seconds of processor time, per process.
        file_bytes: bytes in one file.
        open_files: number of descriptors.
        layers: which mechanisms to use.
    """

    readable: Sequence[str]
    listable: Sequence[str]
    writable: str
    memory_bytes: int
    cpu_seconds: int
    file_bytes: int
    open_files: int
    layers: Layers


def confine(policy: Policy) -> int | None:
    """Confines the calling process and all its future forks, irrevocably.

    PR_SET_DUMPABLE is unchanged: without it a session's memory could not be measured, other processes are
    out of its reach by other means, and core dumps are disabled by their limit.

    Args:
        policy: what it keeps.

    Returns:
        The descriptor on which a supervisor is asked about forks, to be passed on and closed; None without seccomp.

    Raises:
        OSError: a layer that the policy requires could not be set up; the process must not continue.
    """
    if policy.layers.own_mounts:
        kernel.call("unshare", namespaces.MOUNT)
    limits.apply(limits.Limits(policy.memory_bytes, policy.cpu_seconds, policy.file_bytes, policy.open_files))
    if policy.layers.capabilities_dropped:
        capabilities.drop_all_but((capabilities.SYS_ADMIN,) if policy.layers.own_mounts else ())
    if policy.layers.no_new_privs:
        capabilities.forbid_new_privileges()
    if policy.layers.landlock:
        landlock.restrict(policy.readable, policy.listable, policy.writable)
    if policy.layers.seccomp:
        return seccomp.install_session_filter(private_root=policy.layers.namespaces)
    return None
