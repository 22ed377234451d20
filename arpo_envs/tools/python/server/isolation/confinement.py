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
        listable: folders of which it may list the names.
        writable: the folder in which it may write.
        memory_bytes: of private writable memory; shared memory is refused.
        cpu_seconds: of processor time, per process.
        file_bytes: of one file.
        open_files: descriptors.
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
    """Confines the calling process and all its future forks, for good.

    PR_SET_DUMPABLE stays as it is: without it nobody could measure a session's memory, other processes are
    out of its reach by other means, and core dumps are switched off by their limit.

    Args:
        policy: what it keeps.

    Returns:
        The descriptor on which a supervisor is asked about forks, to be passed on and closed; None without seccomp.

    Raises:
        OSError: a layer that the policy wants could not be had; the process must not go on.
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
