"""What an attack is: code for a cell that runs in a clone of a clone, and what must be seen afterwards.

The attacks themselves are in `attacks_outside`, `attacks_processes`, `attacks_resources` and `attacks_session`.
Each one says what must come of it; none may be marked as expected to fail.
"""

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seen:
    """What came of an attack.

    Args:
        text: what the cell showed; the error's text when the original could not even be cloned.
        error: the result's error; "clone" when there was no clone.
        namespaces: the mode has namespaces.
    """

    text: str
    error: str | None
    namespaces: bool


@dataclass(frozen=True)
class Host:
    """The host's things that an attack is after.

    Args:
        folder: a folder that everybody may read, with `secret` in it.
        workdir: the attacker's working directory as the host sees it; None where it is out of the host's sight.
    """

    folder: Path
    workdir: Path | None

    @property
    def secret(self) -> Path:
        return self.folder / "secret.txt"

    @property
    def family(self) -> Path | None:
        return None if self.workdir is None else self.workdir.parent


Expectation = Callable[[Seen], str | None]
"""Returns what is wrong, or None."""
HostCheck = Callable[[Host], str | None]
Ask = tuple[str, str]
"""A cell, and the text it must show."""

INTACT: Ask = ("counter", "41")


@dataclass(frozen=True)
class Attack:
    """One case.

    Args:
        name: an identifier.
        cell: code that is run in a clone of a clone, after `PRELUDE`.
        expect: what must come of it.
        before: code that is run in the original, which is then cloned for the attack.
        after: what the attacked clone itself must say then; None if it may be lost, but at once.
        original: what the original must say then, when it had a `before`; None if it may be lost.
        host: looks at the host's side afterwards.
        seconds: the time limit of a cell.
        answering: seconds in which the server and a clone must answer; None leaves them the usual time.
        grace: seconds after the time limit in which it must stop; None leaves it the usual time.
        meanwhile: what the suite does over and over while the cell runs: "clone" the sibling, or "close" the original.
    """

    name: str
    cell: str
    expect: Expectation
    before: str = ""
    after: Ask | None = INTACT
    original: Ask | None = INTACT
    host: HostCheck | None = None
    seconds: float = 10.0
    answering: float | None = None
    grace: float | None = None
    meanwhile: str = ""


def refused(*codes: str, hidden: tuple[str, ...] = ()) -> Expectation:
    """Every attempt in the dict that the cell shows ended with one of these errors.

    Args:
        codes: names of errors.
        hidden: the errors with namespaces, where they are others.
    """

    def check(seen: Seen) -> str | None:
        allowed = hidden if hidden and seen.namespaces else codes
        wrong = {attempt: what for attempt, what in attempts(seen).items() if what not in allowed}
        return f"not refused with {' or '.join(allowed)}: {wrong}" if wrong else None

    return check


def attempts(seen: Seen) -> Mapping[str, str]:
    """Returns the dict that a cell shows; one that says that there is none, if there is none."""
    try:
        found = ast.literal_eval(seen.text) if seen.error is None else None
    except (ValueError, SyntaxError):
        found = None
    return found if isinstance(found, dict) and found else {"the cell": f"showed {seen.text[-300:]!r} ({seen.error})"}


def shows(text: str, error: str | None = None) -> Expectation:
    """The result is exactly this."""
    return lambda seen: None if (seen.text, seen.error) == (text, error) else f"not {text!r} ({error})"


def fails(*needles: str) -> Expectation:
    """The cell failed, and the text ends with a line that has one of these in it."""

    def check(seen: Seen) -> str | None:
        last = seen.text.rpartition("\n")[2]
        return None if seen.error == "error" and any(needle in last for needle in needles) else f"not an error {needles}"

    return check


def ran(seen: Seen) -> str | None:
    """The cell ran, with whatever result; what matters is seen elsewhere."""
    return None if seen.error in (None, "error") else "it did not run"


def times_out(seen: Seen) -> str | None:
    """The cell was interrupted, and its state kept."""
    return None if seen.error == "timeout" and seen.text.endswith("the state up to there is kept") else "did not time out"


def stopped(seen: Seen) -> str | None:
    """The process was killed for not stopping, and its checkpoint took its place."""
    return (
        None
        if seen.error == "timeout" and seen.text.endswith("had to be stopped; the state is as before this cell")
        else "not stopped"
    )


def died(seen: Seen) -> str | None:
    """The process ended or was killed for what it said, and its checkpoint took its place."""
    return None if seen.error == "died" and seen.text.endswith("; the state is as before this cell") else "did not die"


def undone(seen: Seen) -> str | None:
    """The cell took more than its share, and was undone."""
    return None if seen.error == "limit" and seen.text.startswith("the cell was undone") else "not undone"


def not_cloned(seen: Seen) -> str | None:
    """There was no clone."""
    return None if seen.error == "clone" else "it was cloned"


def is_gone(seen: Seen) -> str | None:
    """The clone's process had ended before it was given the cell."""
    return None if seen.error == "limit" and seen.text.endswith("the interpreter is gone.") else "it is not gone"


def one_of(*expectations: Expectation) -> Expectation:
    """One of these holds."""

    def check(seen: Seen) -> str | None:
        complaints = [expectation(seen) for expectation in expectations]
        return None if None in complaints else "; ".join(complaint for complaint in complaints if complaint)

    return check


def with_namespaces(inside: Expectation, otherwise: Expectation) -> Expectation:
    """What must be seen depends on whether the mode has namespaces."""
    return lambda seen: (inside if seen.namespaces else otherwise)(seen)


def is_intact(host: Host) -> str | None:
    """The secret's content, its time and its folder are untouched."""
    found = sorted(path.name for path in host.folder.iterdir())
    if found != [host.secret.name]:
        return f"the host's folder holds {found}"
    if host.secret.read_text(encoding="utf-8") != SECRET:
        return "the host's file was written to"
    status = host.secret.stat()
    return None if (status.st_mtime, status.st_nlink) == (SECRET_TIME, 1) else "the host's file's time or links were changed"


SECRET = "the secret of the host"
SECRET_TIME = 1_000_000_000
"""When the secret was written, in seconds since 1970."""

PRELUDE = '''
import atexit, builtins, ctypes, errno, fcntl, gc, json, mmap, os, re, resource, signal, socket, stat, struct, subprocess, sys
import threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
counter = 41

def tried(action, *arguments, **options):
    """Returns the name of the error that comes of it, or what it did."""
    try:
        value = action(*arguments, **options)
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
    except Exception as error:
        return type(error).__name__
    return f"did {value!r:.60}"

def called(name, *arguments):
    """Makes a system call and returns the name of its error, or what it did."""
    number = numbers[name] if isinstance(name, str) else name
    if number is None:
        return "EPERM"  # this architecture has no such call
    ctypes.set_errno(0)
    words = [argument if isinstance(argument, (bytes, ctypes.Array)) else ctypes.c_long(argument) for argument in arguments]
    value = libc.syscall(ctypes.c_long(number), *words, *[ctypes.c_long(0)] * (6 - len(words)))
    return f"did {value}" if value >= 0 else errno.errorcode.get(ctypes.get_errno(), str(ctypes.get_errno()))

def open_files():
    found = []
    for file in range(256):
        try:
            os.fstat(file)
        except OSError:
            continue
        found.append(file)
    return found

def control():
    """Returns the descriptors of the sockets to the host."""
    return [file for file in open_files() if stat.S_ISSOCK(os.fstat(file).st_mode)]

def frame(body):
    return struct.pack(">I", len(body)) + body

def loop_frame():
    """Returns the frame of the loop that runs cells."""
    here = sys._getframe()
    while here is not None and "order" not in here.f_locals:
        here = here.f_back
    return here

def spin():
    while True:
        pass
'''
"""What every cell may use; `host` and `numbers` are set as well."""

_NUMBERS = """
kill 62 129 tkill 200 130 tgkill 234 131 rt_sigqueueinfo 129 138 rt_tgsigqueueinfo 297 240 pidfd_open 434 434
pidfd_send_signal 424 424 pidfd_getfd 438 438 ptrace 101 117 process_vm_readv 310 270 process_vm_writev 311 271
process_madvise 440 440 kcmp 312 272 setpgid 109 154 setsid 112 157 setpriority 141 140 sched_setscheduler 144 119
sched_setaffinity 203 122 ioprio_set 251 30 mount 165 40 umount2 166 39 unshare 272 97 setns 308 268 chroot 161 51
pivot_root 155 41 fsopen 430 430 fsmount 432 432 open_tree 428 428 move_mount 429 429 mount_setattr 442 442
sethostname 170 161 setuid 105 146 setgid 106 144 setgroups 116 159 setresuid 117 147 setresgid 119 149 setfsuid 122 151
capset 126 91 keyctl 250 219 add_key 248 217 request_key 249 218 execve 59 221 execveat 322 281 fork 57 - vfork 58 -
clone 56 220 clone3 435 435 kexec_load 246 104 kexec_file_load 320 294 bpf 321 280 io_uring_setup 425 425
userfaultfd 323 282 perf_event_open 298 241 memfd_create 319 279 memfd_secret 447 447 name_to_handle_at 303 264
open_by_handle_at 304 265 seccomp 317 277 personality 135 92 prctl 157 167 prlimit64 302 261 init_module 175 105
finit_module 313 273 delete_module 176 106 reboot 169 142 swapon 167 224 syslog 103 116 acct 163 89 settimeofday 164 170
clock_settime 227 112 mknodat 259 33 shmget 29 194 semget 64 190 msgget 68 186 mq_open 240 180 mlock 149 228
mlockall 151 230 move_pages 279 239 migrate_pages 256 238 landlock_restrict_self 446 446 iopl 172 - ioperm 173 -
modify_ldt 154 - setxattr 188 5 socket 41 198 socketpair 53 199 sendto 44 206 getpid 39 172 mmap 9 222 ioctl 16 29
eventfd2 290 19
"""


def numbers(machine: str) -> dict[str, int | None]:
    """Returns the numbers of the system calls that attacks make by name; None for those that the machine lacks.

    Args:
        machine: as `uname -m` prints it.
    """
    words = _NUMBERS.split()
    column = {"x86_64": 1, "aarch64": 2}[machine]
    rows = zip(words[::3], words[column::3], strict=True)
    return {name: None if number == "-" else int(number) for name, number in rows}
