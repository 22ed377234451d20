"""A session with mounts of its own has one capability, and can do nothing with it but fork when it is told to."""

import pytest
from attacks import PRELUDE, numbers
from python_sessions import cloned, opened, text, usable_tool

_SYS_ADMIN = 1 << 21
_ADMINISTRATION = """
tries = {
    "unshare mounts": called("unshare", 0x00020000), "unshare users": called("unshare", 0x10000000),
    "mount": called("mount", b"tmpfs", b".", b"tmpfs", 0, 0), "bind": called("mount", b"/", b".", 0, 0x1000, 0),
    "remount": called("mount", 0, b"..", 0, 0x20, 0), "move": called("mount", b".", b"..", 0, 0x2000, 0),
    "umount": called("umount2", os.getcwd().encode(), 2), "pivot_root": called("pivot_root", b".", b"."),
    "setns": called("setns", 0, 0x00020000), "chroot": called("chroot", b"."),
    "open_tree": called("open_tree", -100, b".", 1), "move_mount": called("move_mount", 0, b"", -100, b".", 4),
    "fsopen": called("fsopen", b"tmpfs", 0), "fsmount": called("fsmount", 0, 0, 0),
    "mount_setattr": called("mount_setattr", -100, b"..", 0, bytes(32), 32),
    "sethostname": called("sethostname", b"mine", 4), "capset": called("capset", bytes(8), bytes(24)),
    "fork into mounts": called("clone", 0x01208011 | 0x00020000, 0, 0, 0, 0), "fork": called("clone", 0x01208011, 0, 0, 0, 0),
    "fork into users": called("clone", 0x01208011 | 0x10020000, 0, 0, 0, 0), "clone3": called("clone3", bytes(88), 88),
    "keyctl": called("keyctl", 0), "bpf": called("bpf", 0, bytes(8), 8), "swapon": called("swapon", b"f", 0),
    "name_to_handle_at": called("name_to_handle_at", -100, b".", bytes(128), bytes(8), 0),
    "setxattr": called("setxattr", b".", b"trusted.x", b"x", 1, 0), "quotactl": called(179, 0, 0, 0, 0),
}
{what: came for what, came in tries.items() if came not in ("EPERM", "ENOSYS", "EOPNOTSUPP")}
"""
_HELD = """
header, data = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0)), ctypes.create_string_buffer(24)
called(125 if os.uname().machine == "x86_64" else 90, header, data)
[low for low in struct.unpack("=6I", data.raw)]
"""
_FORGED = """
own = socket.socket(fileno=os.dup(control()[0]))
tried(own.sendmsg, [b"x"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("3i", 1, os.getuid(), os.getgid()))])
"""


@pytest.fixture(scope="module")
def session():
    with opened(usable_tool("full", imports=())) as session:
        import os

        text(session, f"{PRELUDE}\nnumbers = {numbers(os.uname().machine)}")
        yield session


def test_the_capability_is_the_only_one_and_of_no_use(session):
    with cloned(session) as [child], cloned(child) as [heir]:
        for one in (session, child, heir):
            assert text(one, _HELD) == f"[{_SYS_ADMIN}, {_SYS_ADMIN}, 0, 0, 0, 0]"
            assert text(one, _ADMINISTRATION) == "{}"


def test_a_session_cannot_say_that_it_is_another_process(session):
    with cloned(session) as [child]:
        assert text(child, _FORGED) == "'EPERM'", "its process namespace is not its user namespace's"
