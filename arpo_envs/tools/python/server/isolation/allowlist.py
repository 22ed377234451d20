"""Which system calls a session may make: a table of verdicts by name, and nothing else is allowed.

It is wide enough for CPython 3.11 to 3.13, NumPy with one thread, SymPy, and files in the working
directory. What is left out on purpose, beyond the obvious: signals to anyone, `execve`, sockets, threads,
`memfd_create` and shared writable memory (neither counts against the memory limit, and a clone must not
share memory with its original), `truncate` by path, `sync`, `inotify`, extended attributes, and whatever
changes other processes. `PROT_EXEC` is allowed: `ctypes` callbacks may need it, and native code can be
reached through `ctypes` in any case, so refusing it would protect nothing. Landlock's calls are allowed, because a
clone narrows itself with them, and all they can do is take rights away.
"""

import errno
from collections.abc import Mapping

from ..forking import FLAGS, FLAGS_WITH_MOUNTS
from .bpf import ALLOW, NOTIFY, Cases, Condition, Verdict, assemble, errno_verdict, word
from .syscalls import Architecture

DEFAULT = errno_verdict(errno.EPERM)
_IGNORED = errno_verdict(0)
_NOT_SUPPORTED = errno_verdict(errno.EOPNOTSUPP)

_FREELY = """
read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range
stat lstat fstat newfstatat statx access faccessat faccessat2 readlink readlinkat
getcwd chdir fchdir getdents getdents64 mkdir mkdirat rmdir unlink unlinkat rename renameat
link linkat symlink symlinkat ftruncate umask statfs fstatfs
fadvise64 sendfile copy_file_range
dup dup2 dup3 pipe poll ppoll select pselect6
brk munmap msync
rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack pause
setitimer getitimer alarm restart_syscall
clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage
getpid getppid gettid getuid geteuid getgid getegid getresuid getresgid getgroups getpgid getpgrp getsid
capget getrlimit getpriority uname sysinfo getcpu sched_yield sched_getaffinity getrandom
set_robust_list rseq wait4 waitid exit exit_group
getsockname landlock_create_ruleset landlock_add_rule landlock_restrict_self
"""

# Accepted but not done: a session cannot open its files, or the folders above them, to others, or change the times of
# files outside; Landlock prevents none of these. Nothing in a session has to survive a power failure. And a lock on a file
# that all episodes read would stop other programs, and carry messages to them; on a session's own files nothing competes.
_PRETENDED = """
chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat utime utimes futimesat utimensat fsync fdatasync flock
"""

# As in a file system without such attributes; those of files outside do not concern a session.
_UNSUPPORTED = "getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr"

_SIGKILL = 9

_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_SETFL, _F_GETLK, _F_SETLK, _F_SETLKW = 0, 1, 2, 3, 4, 5, 6, 7
_F_OFD_GETLK, _F_OFD_SETLK, _F_OFD_SETLKW, _F_DUPFD_CLOEXEC, _F_GETPIPE_SZ = 36, 37, 38, 1030, 1032
_FCNTL = (
    *(_F_DUPFD, _F_GETFD, _F_SETFD, _F_GETFL, _F_SETFL, _F_GETLK, _F_OFD_GETLK),
    *(_F_DUPFD_CLOEXEC, _F_GETPIPE_SZ),
)
_LOCKING = (_F_SETLK, _F_SETLKW, _F_OFD_SETLK, _F_OFD_SETLKW)

_TCGETS, _TCGETS2, _TIOCGWINSZ = 0x5401, 0x802C542A, 0x5413
_FIONREAD, _FIONBIO, _FIONCLEX, _FIOCLEX = 0x541B, 0x5421, 0x5450, 0x5451
_IOCTL = (_TCGETS, _TCGETS2, _TIOCGWINSZ, _FIONREAD, _FIONBIO, _FIONCLEX, _FIOCLEX)
_FICLONE = 0x40049409  # the standard library tries this first when it copies a file

_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_GET_DUMPABLE, _PR_GET_KEEPCAPS, _PR_SET_NAME, _PR_GET_NAME = 1, 2, 3, 7, 15, 16
_PR_GET_SECCOMP, _PR_CAPBSET_READ, _PR_GET_SECUREBITS, _PR_GET_TIMERSLACK, _PR_GET_NO_NEW_PRIVS = 21, 23, 27, 30, 39
_PRCTL = (
    *(_PR_GET_PDEATHSIG, _PR_GET_DUMPABLE, _PR_GET_KEEPCAPS, _PR_SET_NAME, _PR_GET_NAME),
    *(_PR_GET_SECCOMP, _PR_CAPBSET_READ, _PR_GET_SECUREBITS, _PR_GET_TIMERSLACK, _PR_GET_NO_NEW_PRIVS),
)

_O_CREAT, _O_TRUNC, _O_TMPFILE, _O_NONBLOCK, _O_CLOEXEC = 0o100, 0o1000, 0o20000000, 0o4000, 0o2000000
_O_READ_ONLY, _O_NEITHER, _ACCESS = 0, 3, 3
_SET_ID = (0o2000, 0o4000, 0o6000)
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2

_PROT_WRITE = 0x2
_MAP_SHARED, _MAP_PRIVATE, _MAP_KIND, _MAP_ANONYMOUS = 0x1, 0x2, 0xF, 0x20
_MAP_HARMLESS = 0x10 | 0x40 | 0x800 | 0x1000 | 0x4000 | 0x8000 | 0x10000 | 0x20000 | 0x100000
"""MAP_FIXED, _32BIT, _DENYWRITE, _EXECUTABLE, _NORESERVE, _POPULATE, _NONBLOCK, _STACK, _FIXED_NOREPLACE. Memory that
grows downwards, is locked, or consists of huge pages is not counted by RLIMIT_DATA."""
_ADVICE = (0, 1, 2, 3, 4, 8, 14, 15, 16, 17)  # of MADV_: those that change neither pages nor what a fork inherits
_BLOCK = 24
"""Bits of an address within one of the blocks into which the filter divides memory."""

_FUTEX_WAITS_AND_WAKES = (0, 1, 3, 4, 5, 9, 10)  # without those for priority inheritance, which nobody uses
_FUTEX_PRIVATE, _FUTEX_REAL_TIME = 128, 256

_MSG_HARMLESS = 0x2 | 0x20 | 0x40 | 0x100 | 0x4000 | 0x40000000  # PEEK, TRUNC, DONTWAIT, WAITALL, NOSIGNAL, CMSG_CLOEXEC
_SOL_SOCKET = 1
_SO_ASKED = (3, 4, 7, 8, 30, 38, 39)  # TYPE, ERROR, SNDBUF, RCVBUF, ACCEPTCONN, PROTOCOL, DOMAIN; not the peer's identity


def _only(*cases: tuple[Condition, ...]) -> Cases:
    return Cases(tuple((conditions, ALLOW) for conditions in cases), DEFAULT)


def _no_bits_but(argument: int, bits: int) -> Condition:
    return Condition(argument, (0,), mask=0xFFFFFFFF ^ bits)


def _opening(flags: int) -> Cases:
    """Refuses to make set-id programs, and to truncate what is not opened for writing.

    Landlock cannot see the latter before version 3.
    """
    set_id = Condition(flags + 1, _SET_ID, mask=0o6000)
    truncating = tuple(_O_TRUNC | mode for mode in (_O_READ_ONLY, _O_NEITHER))
    refused = (
        (Condition(flags, truncating, mask=_O_TRUNC | _ACCESS),),
        (Condition(flags, (_O_CREAT,), mask=_O_CREAT), set_id),
        (Condition(flags, (_O_TMPFILE,), mask=_O_TMPFILE), set_id),
    )
    return Cases(tuple((conditions, DEFAULT) for conditions in refused), ALLOW)


def _moving(stack: range | None) -> Verdict:
    """Refuses to enlarge the stack, which RLIMIT_DATA does not count; nothing else could be enlarged unseen.

    Some processors ignore the highest byte of an address.
    """
    if stack is None:
        return DEFAULT
    blocks = range(stack.start >> _BLOCK, ((stack.stop - 1) >> _BLOCK) + 1)
    cases = (
        (Condition(0, (high & 0xFFFFFF,), mask=0xFFFFFF, upper=True), Condition(0, (low << _BLOCK,), mask=0xFF000000))
        for high, low in (divmod(block, 256) for block in blocks)
    )
    return Cases(tuple((conditions, DEFAULT) for conditions in cases), ALLOW)


_DEPENDING: Mapping[str, Verdict] = {
    "open": _opening(1),
    "openat": _opening(2),
    "creat": Cases((((Condition(1, _SET_ID, mask=0o6000),), DEFAULT),), ALLOW),
    "fallocate": _only((Condition(1, (0,)),)),  # the other modes ignore the limit on a file's size
    "renameat2": _only((Condition(4, (0, _RENAME_NOREPLACE, _RENAME_EXCHANGE)),)),
    "pipe2": _only((_no_bits_but(1, _O_NONBLOCK | _O_CLOEXEC),)),
    "fcntl": Cases((((Condition(1, _FCNTL),), ALLOW), ((Condition(1, _LOCKING),), _IGNORED)), DEFAULT),
    "ioctl": Cases((((Condition(1, _IOCTL),), ALLOW), ((Condition(1, (_FICLONE,)),), _NOT_SUPPORTED)), DEFAULT),
    "prctl": _only((Condition(0, _PRCTL),), (Condition(0, (_PR_SET_PDEATHSIG,)), *word(1, _SIGKILL))),
    "prlimit64": _only((Condition(0, (0,)), *word(2, 0))),  # its own limits, to read them
    "personality": _only((Condition(0, (0xFFFFFFFF,)),)),  # asks for the present one
    "mmap": _only(
        (_no_bits_but(3, _MAP_HARMLESS | _MAP_ANONYMOUS | _MAP_KIND), Condition(3, (_MAP_PRIVATE,), mask=_MAP_KIND)),
        (
            *(_no_bits_but(3, _MAP_HARMLESS | _MAP_KIND), Condition(3, (_MAP_SHARED,), mask=_MAP_KIND)),
            Condition(2, (0,), mask=_PROT_WRITE),
        ),
    ),
    # Otherwise a file that is mapped shared, for reading, could be made writable memory.
    "mprotect": _only((Condition(2, (0,), mask=_PROT_WRITE),)),
    "madvise": _only((Condition(2, _ADVICE),)),
    "futex": _only((Condition(1, _FUTEX_WAITS_AND_WAKES, mask=0xFFFFFFFF ^ (_FUTEX_PRIVATE | _FUTEX_REAL_TIME)),)),
    "sendmsg": _only((_no_bits_but(2, _MSG_HARMLESS),)),
    "recvmsg": _only((_no_bits_but(2, _MSG_HARMLESS),)),
    "sendto": _only((_no_bits_but(3, _MSG_HARMLESS),)),
    "recvfrom": _only((_no_bits_but(3, _MSG_HARMLESS),)),
    "getsockopt": _only((Condition(1, (_SOL_SOCKET,)), Condition(2, _SO_ASKED))),
    # The supervisor is asked about the one fork that a server orders; `os.fork`, threads and `vfork` have other flags. The C
    # library falls back to `clone` when `clone3`, whose flags a filter cannot see, does not exist.
    "clone": Cases(tuple(((*word(0, flags), *word(1, 0)), NOTIFY) for flags in (FLAGS, FLAGS_WITH_MOUNTS)), DEFAULT),
    "clone3": errno_verdict(errno.ENOSYS),
}


def verdicts(stack: range | None = None, *, private_root: bool = False) -> dict[str, Verdict]:
    """Returns the verdict on every call that has its own, by name.

    Args:
        stack: the addresses of the process's stack; without them `mremap` is refused.
        private_root: all files that a session can see are read-only or its own, so it may set their times.
    """
    return {
        **dict.fromkeys(_FREELY.split(), ALLOW),
        **dict.fromkeys(_PRETENDED.split(), _IGNORED),
        **dict.fromkeys(_UNSUPPORTED.split(), _NOT_SUPPORTED),
        **_DEPENDING,
        "mremap": _moving(stack),
        **({"utimensat": ALLOW} if private_root else {}),
    }


def session_filter(architecture: Architecture, stack: range | None = None, *, private_root: bool = False) -> bytes:
    """Returns the machine code of the filter that every session gets; see `verdicts`."""
    table = verdicts(stack, private_root=private_root)
    by_number = {architecture.numbers[name]: verdict for name, verdict in table.items() if name in architecture.numbers}
    return assemble(architecture, by_number, DEFAULT)
