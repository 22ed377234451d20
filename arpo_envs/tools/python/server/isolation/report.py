"""What a machine offers to confine a model's code, as values."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Layers:
    """Which mechanisms are used.

    Args:
        namespaces: namespaces for users, processes, network, mounts, IPC and host name, and a private root.
        landlock: the version of Landlock's interface; 0 for none.
        seccomp: the allow-list of system calls, with forks asked of a supervisor.
        no_new_privs: programs cannot give rights.
        capabilities_dropped: the process has no capability, or only the one needed to fork into its own mount namespace.
        own_mounts: each session has a mount namespace of its own, in a user namespace that owns nothing else.
    """

    namespaces: bool
    landlock: int
    seccomp: bool
    no_new_privs: bool
    capabilities_dropped: bool
    own_mounts: bool = False


@dataclass(frozen=True)
class Row:
    """One mechanism, as found here.

    Args:
        name: what it is called.
        active: it works on this machine, for this user.
        what: what it does.
        detail: its version and limits; if it is not active, why, and what to do.
    """

    name: str
    active: bool
    what: str
    detail: str


@dataclass(frozen=True)
class Report:
    """What was found by trying.

    Args:
        layers: what can be used.
        found: every mechanism that was tried.
    """

    layers: Layers
    found: tuple[Row, ...]

    def rows(self) -> tuple[Row, ...]:
        """Returns every mechanism, for a table."""
        return self.found

    def missing_minimum(self) -> list[str]:
        """Returns what sessions lack to start at all, with the reasons; empty if they can start.

        The minimum is the system call filter with supervised forks, no_new_privs, resource limits, no
        capabilities, and one of Landlock and the namespaces with their private root.
        """
        rows = {row.name: row for row in self.found}
        missing = [rows[name] for name in MINIMUM if not rows[name].active]
        if not self.layers.landlock and not self.layers.namespaces:
            missing += [rows[LANDLOCK]]
            missing += [rows[name] for name in NAMESPACES if not rows[name].active][:1]
        reasons: dict[str, list[str]] = {}
        for row in missing:
            reasons.setdefault(row.detail, []).append(f"{row.name} ({row.what})")
        return [f"{', '.join(names)}: {detail}" for detail, names in reasons.items()]

    def unkept(self) -> list[str]:
        """Returns the promises that sessions, if they start, would not keep here, each with the reason and what to do."""
        if self.layers.landlock or self.layers.own_mounts:
            return []
        return [f"{row.name} is missing: {UNKEPT}. {row.detail}" for row in self.found if row.name == LANDLOCK]


USER_NAMESPACE, PRIVATE_ROOT, LANDLOCK = "user namespace", "private root", "Landlock"
FILTER, SUPERVISION, NO_NEW_PRIVS = "system call filter", "supervised forks", "no_new_privs"
CAPABILITIES, LIMITS, CGROUP_NAMESPACE = "no capabilities", "resource limits", "cgroup namespace"

NAMESPACES = (
    USER_NAMESPACE,
    "mount namespace",
    "process namespace",
    "network namespace",
    "IPC namespace",
    "host name namespace",
    PRIVATE_ROOT,
)
OWN_MOUNTS = "mounts per session"
UNKEPT = "a path that was stored before the clone leads to its original's files, for reading and for writing"
"""What does not hold without Landlock, unless each session has its own mounts."""
MINIMUM = (FILTER, SUPERVISION, NO_NEW_PRIVS, CAPABILITIES, LIMITS)


def from_rows(rows: Iterable[Row], landlock: int) -> Report:
    """Returns the report on what was found.

    Args:
        rows: every mechanism.
        landlock: the version of Landlock's interface; it counts only if Landlock's row is active.
    """
    found = tuple(rows)
    active = {row.name for row in found if row.active}
    layers = Layers(
        namespaces=active.issuperset(NAMESPACES),
        landlock=landlock if LANDLOCK in active else 0,
        seccomp=active.issuperset((FILTER, SUPERVISION)),
        no_new_privs=NO_NEW_PRIVS in active,
        capabilities_dropped=CAPABILITIES in active,
        own_mounts=active.issuperset((*NAMESPACES, OWN_MOUNTS)),
    )
    return Report(layers, found)
