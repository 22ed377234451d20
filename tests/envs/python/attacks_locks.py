"""Attacks by locks on files that all episodes and the host share: they would stop others, and carry messages."""

import fcntl
import os
import struct

from attacks import Attack, Host, refused, shows

LOCKED = (os.__file__, struct.__file__, "/dev/null", "/dev/urandom")
_RECORD = "hhqqi"
"""Kind, whence, start, length and owner of a record lock; its places can carry 56 bits."""


def _locks_nothing(host: Host) -> str | None:
    """The host's programs can lock what the attacker has locked, which is still alive."""
    for path in LOCKED:
        file = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            kind, *_ = struct.unpack(_RECORD, fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(_RECORD, fcntl.F_WRLCK, 0, 0, 0, 0)))
        except BlockingIOError:
            return f"a lock is on {path}"
        finally:
            os.close(file)
        if kind != fcntl.F_UNLCK:
            return f"a record lock is on {path}"
    return None


_TO_LOCK = f"""
files = [os.open(path, os.O_RDWR if path == "/dev/null" else os.O_RDONLY) for path in {LOCKED!r}]
record = lambda kind: struct.pack({_RECORD!r}, kind, 0, 0x12345678, 0x9abcdef, 0)
"""

LOCKS = (
    Attack(
        "locks_on_shared_files",
        f"""{_TO_LOCK}
{{f"{{what}} {{number}}": tried(fcntl.flock, file, kind) for number, file in enumerate(files) for what, kind in (
    ("exclusive", fcntl.LOCK_EX), ("shared", fcntl.LOCK_SH | fcntl.LOCK_NB), ("again", fcntl.LOCK_EX | fcntl.LOCK_NB))}}""",
        refused("did None"),  # such calls are answered with success and not made
        host=_locks_nothing,
    ),
    Attack(
        "record_locks_on_shared_files",
        f"""{_TO_LOCK}
orders = {{"at once": 6, "patiently": 7, "of the file": 37, "of the file, patiently": 38}}
did = {{f"{{what}} {{number}}": tried(fcntl.fcntl, file, order, record(kind)) for number, file in enumerate(files)
       for what, order in orders.items() for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK)}}
{{name: what[:3] for name, what in did.items()}} | {{f"lockf {{number}}": tried(fcntl.lockf, file, fcntl.LOCK_SH, 56, 7)[:3]
                                                     for number, file in enumerate(files)}}""",
        refused("did"),
        host=_locks_nothing,
    ),
    Attack(
        "locks_by_number_and_by_the_c_library",
        f"""{_TO_LOCK}
{{f"lockf {{file}}": str(libc.lockf(file, 1, ctypes.c_long(56))) for file in files[2:3]}} | {{
    f"fcntl {{file}}": str(libc.fcntl(file, 37, record(0))) for file in files}} | {{
    f"flock {{file}}": str(libc.flock(file, 2)) for file in files}}""",
        refused("0"),
        host=_locks_nothing,
    ),
    Attack(
        "messages_by_records",
        f"""{_TO_LOCK}
def seen(file, order=fcntl.F_GETLK):
    return struct.unpack({_RECORD!r}, fcntl.fcntl(file, order, struct.pack({_RECORD!r}, 1, 0, 0, 0, 0)))[0] == fcntl.F_UNLCK
[seen(file, order) for file in files for order in (5, 36)]""",
        shows(str([True] * 8)),
        before=f"""{_TO_LOCK}
for file in files:
    fcntl.fcntl(file, 37, record(0)), fcntl.fcntl(file, 6, record(0)), fcntl.flock(file, fcntl.LOCK_EX)""",
        host=_locks_nothing,
    ),
)
