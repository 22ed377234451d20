"""Why a mechanism is missing, from the error and a few facts about the machine, and what to do about it."""

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from .report import CAPABILITIES, FILTER, LANDLOCK, LIMITS, NAMESPACES, NO_NEW_PRIVS, OWN_MOUNTS, SUPERVISION, USER_NAMESPACE


@dataclass(frozen=True)
class Facts:
    """What determines the likely cause.

    Args:
        release: the kernel's, as `uname -r` prints it.
        filtered: this process is under a seccomp filter, as in most containers.
        container: it looks like a container.
        namespaces_allowed: `user.max_user_namespaces`; None if unknown.
        unprivileged_namespaces: `kernel.unprivileged_userns_clone`, of older Debian kernels; None if there is none.
        apparmor: `kernel.apparmor_restrict_unprivileged_userns`, of newer Ubuntu releases; None if there is none.
        security_modules: the active ones, separated by commas; None if unknown.
    """

    release: str
    filtered: bool
    container: bool
    namespaces_allowed: int | None
    unprivileged_namespaces: int | None
    apparmor: int | None
    security_modules: str | None


def facts() -> Facts:
    """Reads the facts; what cannot be read is unknown."""
    return Facts(
        release=os.uname().release,
        filtered="\nSeccomp:\t2" in (_text("/proc/self/status") or ""),
        container=any(os.path.exists(path) for path in ("/.dockerenv", "/run/.containerenv")),
        namespaces_allowed=_number("/proc/sys/user/max_user_namespaces"),
        unprivileged_namespaces=_number("/proc/sys/kernel/unprivileged_userns_clone"),
        apparmor=_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        security_modules=_text("/sys/kernel/security/lsm"),
    )


def reason(name: str, code: int, known: Facts) -> str:
    """Returns why a mechanism is missing and what to do, in one or two sentences.

    Args:
        name: the mechanism, as in the report.
        code: the error's number.
        known: what is known about the machine.
    """
    error = f"{os.strerror(code)} ({errno.errorcode.get(code, code)})"
    return f"{error}. {_cause(name, code, known)}".strip()


def _cause(name: str, code: int, known: Facts) -> str:
    if name in (*NAMESPACES, OWN_MOUNTS):
        return _cause_of_namespaces(name, code, known)
    if name == LANDLOCK:
        return _cause_of_landlock(code, known)
    if name in (FILTER, SUPERVISION):
        if code == errno.EBUSY:
            return "Another supervisor already listens to a filter of this process; start from outside it."
        if known.filtered:
            return "A filter is already in place, probably a container's, and does not allow this; Docker's default one does."
        return f"It needs Linux 5.5 or newer with CONFIG_SECCOMP_FILTER; this is {known.release}."
    if name in (NO_NEW_PRIVS, CAPABILITIES, LIMITS):
        return "Every Linux allows this, so a filter that is already in place probably does not."
    return ""


def _cause_of_namespaces(name: str, code: int, known: Facts) -> str:
    if code == errno.EINVAL:
        return f"The kernel ({known.release}) was built without it, or the process has other threads."
    if known.namespaces_allowed == 0:
        return "user.max_user_namespaces is 0; an administrator can raise it: `sysctl user.max_user_namespaces=10000`."
    if code in (errno.ENOSPC, errno.EUSERS):
        return "The limit on namespaces is reached, or they are nested too deeply: see the sysctls under `user.`"
    if known.unprivileged_namespaces == 0:
        return (
            "kernel.unprivileged_userns_clone is 0; an administrator can allow it: `sysctl kernel.unprivileged_userns_clone=1`."
        )
    if known.apparmor:
        return (
            "Ubuntu's AppArmor keeps programs without a profile from using user namespaces; an administrator can allow it: "
            "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`."
        )
    if code == errno.ENOSYS:
        return f"It needs Linux 5.12 or newer; this is {known.release}."
    if known.filtered or known.container:
        what = "hides parts of /proc" if name not in (USER_NAMESPACE,) and not known.filtered else "does not allow it"
        return (
            f"This looks like a container whose runtime {what}; with Docker, `--security-opt seccomp=unconfined "
            "--security-opt systempaths=unconfined` does. The other layers still hold."
        )
    return "A security policy of this machine forbids it (a chroot, SELinux, or a sandbox around this process)."


def _cause_of_landlock(code: int, known: Facts) -> str:
    if code == errno.ENOSYS:
        return f"It needs Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK; this is {known.release}."
    if code == errno.EOPNOTSUPP:
        active = f" (now: {known.security_modules.strip()})" if known.security_modules else ""
        return f"It was not enabled at boot; add landlock to the kernel parameter `lsm=`{active}."
    if known.filtered:
        return "A filter is already in place, probably a container's, and does not allow it; Docker since 23.0 does."
    return ""


def _text(path: str) -> str | None:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return None


def _number(path: str) -> int | None:
    text = _text(path)
    with contextlib.suppress(ValueError):
        return int(text) if text is not None else None
    return None
