"""What keeps a session's code inside its process: kernel mechanisms, each in one small module, stdlib and ctypes only.

From the outside inwards: namespaces and a private root (`enter_namespaces`, once per server), then, in
every freshly forked session, a mount namespace of its own (`OwnMounts`), resource limits, no capabilities
that count, no_new_privs, Landlock and a seccomp allow-list (`confine`). All of them are inherited by a fork
and cannot be undone by the process itself.
`probe` reports which of them this machine offers. x86_64 has been run; aarch64 has only been checked
against the kernel's headers.

Everything needed later is imported here: once the private root is entered, the package's own
files are out of sight.
"""

from . import kernel, notifications
from .confinement import Policy, confine
from .landlock import restrict as restrict_files
from .mounts import mount_workdir, unmount_workdir
from .namespaces import enter_namespaces
from .notifications import Notification
from .own_mounts import OwnMounts, enter_user_namespace
from .private_root import PrivateRoot, python_paths
from .probing import probe
from .report import Layers, Report, Row

__all__ = [
    "Layers",
    "Notification",
    "OwnMounts",
    "Policy",
    "PrivateRoot",
    "Report",
    "Row",
    "confine",
    "enter_namespaces",
    "enter_user_namespace",
    "kernel",
    "mount_workdir",
    "notifications",
    "probe",
    "python_paths",
    "restrict_files",
    "unmount_workdir",
]
