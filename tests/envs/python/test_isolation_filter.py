"""The system call filter as a pure function: verdicts by an interpreter, numbers by the kernel's headers."""

import errno
from pathlib import Path

import pytest
from allowed_calls import KNOWN
from bpf_interpreter import verdict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from syscall_headers import AARCH64_HEADERS, X86_64_HEADERS, numbers

from arpo_envs.tools.python.server.forking import FLAGS, FLAGS_WITH_MOUNTS
from arpo_envs.tools.python.server.isolation.allowlist import session_filter, verdicts
from arpo_envs.tools.python.server.isolation.bpf import (
    ALLOW,
    KILL,
    NOTIFY,
    Cases,
    Condition,
    Verdict,
    assemble,
    errno_verdict,
    word,
)
from arpo_envs.tools.python.server.isolation.syscalls import AARCH64, X86_64, Architecture

BOTH = pytest.mark.parametrize("architecture", [X86_64, AARCH64], ids=lambda architecture: architecture.name)
EPERM = errno_verdict(errno.EPERM)
HIGH = 1 << 32  # a bit of an argument's upper half, which the kernel ignores in an `int`

# What must never become possible, by kind; not all of them exist on both architectures.
_FORBIDDEN = """
socket socketpair connect bind listen accept accept4 setsockopt shutdown sendmmsg recvmmsg
execve execveat vfork uselib
kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal pidfd_getfd
ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp migrate_pages move_pages
mount umount2 pivot_root chroot unshare setns open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr
io_uring_setup io_uring_enter io_uring_register io_setup io_submit bpf perf_event_open userfaultfd
add_key request_key keyctl memfd_create memfd_secret name_to_handle_at open_by_handle_at
mknod mknodat truncate openat2 setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capset setsid setpgid
setrlimit setpriority sched_setaffinity sched_setscheduler sched_setparam sched_setattr ioprio_set set_mempolicy mbind
seccomp
shmget shmat shmctl semget semop semctl msgget msgsnd msgrcv mq_open mq_unlink mlock mlock2 mlockall
inotify_init inotify_init1 inotify_add_watch fanotify_init fanotify_mark signalfd signalfd4 timer_create timerfd_create
eventfd eventfd2 epoll_create epoll_create1
sync syncfs sync_file_range quotactl quotactl_fd acct swapon swapoff reboot kexec_load kexec_file_load init_module
finit_module delete_module iopl ioperm modify_ldt syslog vhangup lookup_dcookie
sethostname setdomainname settimeofday clock_settime clock_adjtime adjtimex
fork splice tee vmsplice remap_file_pages pkey_alloc arch_prctl set_tid_address nfsservctl
"""


STACK = range(0x7FFF_FE80_0000, 0x7FFF_FFFF_F000)
FILTERS = {architecture.name: session_filter(architecture, STACK) for architecture in (X86_64, AARCH64)}


def judge(architecture: Architecture, name: str, *arguments: int) -> int:
    return verdict(FILTERS[architecture.name], architecture.audit, architecture.numbers[name], arguments)


# --- numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "headers"), [(X86_64, X86_64_HEADERS), (AARCH64, AARCH64_HEADERS)], ids=["x86_64", "aarch64"]
)
def test_numbers_are_those_of_the_kernels_headers(architecture: Architecture, headers: tuple[Path, ...]) -> None:
    known = _header_numbers(headers)
    newer = {"fchmodat2": 452}  # of Linux 6.6
    for name, number in architecture.numbers.items():
        assert number == known.get(name, newer.get(name)), name
    assert not {name for name in verdicts() if name in known} - set(architecture.numbers), (
        "the table misses calls with a verdict"
    )


def _header_numbers(headers: tuple[Path, ...]) -> dict[str, int]:
    header = next((header for header in headers if header.exists()), None)
    if header is None:
        pytest.skip(f"no kernel headers for this architecture: none of {[str(header) for header in headers]}")
    return numbers(header)


def test_the_reader_of_headers_understands_both_ways_to_define_a_number(tmp_path: Path) -> None:
    header = tmp_path / "unistd.h"
    header.write_text("#define __NR_read 63\n#define __NR3264_fcntl 25\n#define __NR_fcntl __NR3264_fcntl\n", encoding="ascii")
    assert numbers(header) == {"read": 63, "fcntl": 25}


# --- the allow-list ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "headers"), [(X86_64, X86_64_HEADERS), (AARCH64, AARCH64_HEADERS)], ids=["x86_64", "aarch64"]
)
def test_what_is_forbidden_is_refused(architecture: Architecture, headers: tuple[Path, ...]) -> None:
    known = _header_numbers(headers)
    program = session_filter(architecture)
    checked = [name for name in _FORBIDDEN.split() if name in known]
    assert len(checked) > 130
    for name in checked:
        for arguments in ((), (1, 2, 3, 4, 5, 6), (-1,) * 6):
            assert verdict(program, architecture.audit, known[name], arguments) == EPERM, name


@BOTH
def test_what_is_allowed_is_what_is_written_out_for_the_attacks(architecture: Architecture) -> None:
    assert {architecture.numbers[name] for name in verdicts() if name in architecture.numbers} == KNOWN[architecture.name]
    program = session_filter(architecture)
    for number in set(range(1000)) - KNOWN[architecture.name]:
        assert verdict(program, architecture.audit, number) == EPERM


@BOTH
def test_every_number_gets_the_verdict_of_its_name_and_all_others_are_refused(architecture: Architecture) -> None:
    program = session_filter(architecture)
    names = {number: name for name, number in architecture.numbers.items()}
    table = verdicts()
    for number in (*range(700), 2**20, 2**30 - 1):
        expected = table.get(names.get(number, ""), EPERM)
        if isinstance(expected, int):
            assert verdict(program, architecture.audit, number) == expected, names.get(number, number)


@BOTH
def test_other_architectures_and_interfaces_kill_the_process(architecture: Architecture) -> None:
    program = session_filter(architecture)
    i386, arm = 0x40000003, 0x40000028
    for other in (i386, arm, *({X86_64.audit, AARCH64.audit} - {architecture.audit})):
        assert verdict(program, other, 0) == KILL
    x32 = 0x40000000
    for number in (0, 1, 520, 2**30):
        assert verdict(program, architecture.audit, number + x32) == (KILL if architecture is X86_64 else EPERM)


@BOTH
def test_one_kind_of_fork_is_asked_of_the_supervisor_and_everything_else_refused(architecture: Architecture) -> None:
    sibling, os_fork, new_mounts = 0x01208011, 0x01200011, 0x00020000
    assert (sibling, sibling | new_mounts) == (FLAGS, FLAGS_WITH_MOUNTS)
    for flags in (sibling, sibling | new_mounts):
        assert judge(architecture, "clone", flags, 0, 0, 0x7000, 0x7000) == NOTIFY
    assert judge(architecture, "clone", sibling, 0x7000) == EPERM, "with a stack of its own"
    assert judge(architecture, "clone", sibling, HIGH) == EPERM
    assert judge(architecture, "clone", sibling | HIGH) == EPERM
    assert judge(architecture, "clone3") == errno_verdict(errno.ENOSYS)
    thread, with_vfork = 0x3D0F00, 0x4111
    for flags in (
        0,
        17,
        os_fork,
        thread,
        with_vfork,
        0x8011,
        sibling & ~0xFF,
        sibling - 1,
        new_mounts,
        os_fork | new_mounts,
        *(sibling ^ 1 << bit for bit in range(64) if 1 << bit != new_mounts),
    ):
        assert judge(architecture, "clone", flags) == EPERM, hex(flags)
    notified = [name for name, outcome in verdicts().items() if outcome == NOTIFY]
    assert notified == [], "only `clone`, which depends on its arguments"


@BOTH
def test_calls_that_depend_on_their_arguments(architecture: Architecture) -> None:
    def allowed(name: str, *arguments: int) -> bool:
        result = judge(architecture, name, *arguments)
        assert result in (ALLOW, EPERM)
        return result == ALLOW

    getfd, setfl, dupfd_cloexec, setown, setsig, setlease, notify = 1, 4, 1030, 8, 10, 1024, 1026
    getlk, ofd_getlk, setlk, setlkw, ofd_setlk, ofd_setlkw = 5, 36, 6, 7, 37, 38
    assert all(allowed("fcntl", 3, command) for command in (0, getfd, setfl, getlk, ofd_getlk, dupfd_cloexec))
    for command in (setlk, setlkw, ofd_setlk, ofd_setlkw):
        assert judge(architecture, "fcntl", 3, command, 0x1000) == errno_verdict(0), "a lock is taken in name only"
        assert judge(architecture, "fcntl", 3, command | HIGH, 0x1000) == errno_verdict(0)
    assert not any(allowed("fcntl", 3, command) for command in (setown, setsig, 15, 1031, setlease, notify, 1033, 1036))
    assert not allowed("fcntl", 3, setown | HIGH), "the kernel looks at the lower half only"

    fionread, tcgets, tiocsti, notification, receive = 0x541B, 0x5401, 0x5412, 0xC0502100, 0x40082102
    assert allowed("ioctl", 3, fionread)
    assert allowed("ioctl", 1, tcgets)
    assert not any(allowed("ioctl", 3, request) for request in (tiocsti, tiocsti | HIGH, notification, receive, 0x8901, 0x5422))
    assert judge(architecture, "ioctl", 3, 0x40049409) == errno_verdict(errno.EOPNOTSUPP)

    set_name, get_seccomp, set_death_signal, kill = 15, 21, 1, 9
    assert allowed("prctl", set_name, 0x1234)
    assert allowed("prctl", get_seccomp)
    assert allowed("prctl", set_death_signal, kill)
    assert not any(allowed("prctl", set_death_signal, signal) for signal in (0, 2, 15, kill | HIGH))
    assert not any(allowed("prctl", option) for option in (4, 8, 22, 24, 28, 31, 36, 38, 47, 55, 0x59616D61))

    assert allowed("prlimit64", 0, 7, 0, 0x1000)
    assert not allowed("prlimit64", 0, 7, 0x1000, 0)
    assert not allowed("prlimit64", 0, 7, HIGH, 0), "a pointer's upper half counts"
    assert not allowed("prlimit64", 1, 7, 0, 0x1000)

    assert allowed("personality", 0xFFFFFFFF)
    assert not allowed("personality", 0x0040000)


@BOTH
def test_memory_is_private_or_cannot_be_written(architecture: Architecture) -> None:
    read, write, execute = 1, 2, 4
    shared, private, validate, anonymous, down, locked, huge = 1, 2, 3, 0x20, 0x100, 0x2000, 0x40000

    def allowed(protection: int, flags: int) -> bool:
        return judge(architecture, "mmap", 0, 4096, protection, flags) == ALLOW

    assert allowed(read | write, private | anonymous)
    assert allowed(read | write | execute, private | anonymous)
    assert allowed(read, private)
    assert allowed(read, shared), "a file mapped for reading"
    assert not allowed(read | write, shared)
    assert not allowed(read, shared | anonymous)
    assert not allowed(read | write, validate)
    assert not any(allowed(read | write, private | anonymous | flag) for flag in (down, locked, huge))
    assert not allowed(read, shared | down)
    assert not any(allowed(protection, kind) for protection in (read, read | write) for kind in (0, 4, 8, 0xF, validate))
    assert not any(allowed(read | write, private | anonymous | 1 << bit) for bit in (8, 13, 18, 19, 21, 26, 31))


@BOTH
def test_memory_cannot_be_made_writable_or_special_afterwards(architecture: Architecture) -> None:
    for protection, outcome in ((0, ALLOW), (1, ALLOW), (5, ALLOW), (2, EPERM), (3, EPERM), (7, EPERM), (2 | HIGH, EPERM)):
        assert judge(architecture, "mprotect", 0x1000, 4096, protection) == outcome
    dont_need, huge_pages, dont_fork, mergeable, wipe_on_fork, poison = 4, 14, 10, 12, 18, 100
    assert all(judge(architecture, "madvise", 0x1000, 4096, advice) == ALLOW for advice in (dont_need, huge_pages))
    for advice in (dont_fork, mergeable, wipe_on_fork, poison):
        assert judge(architecture, "madvise", 0x1000, 4096, advice) == EPERM


@BOTH
def test_the_stack_is_neither_moved_nor_enlarged(architecture: Architecture) -> None:
    tag = 0x5A << 56  # which some processors ignore
    for address in (STACK.start, STACK.stop - 4096, 0x7FFF_FF12_3000, STACK.start | tag):
        assert judge(architecture, "mremap", address, 4096, 1 << 31, 1) == EPERM, hex(address)
    for address in (
        0x5555_0000_0000,
        0x7FFF_F7D0_0000,
        STACK.start - (1 << 24),
        STACK.stop + (1 << 24),
        0xFF00_0000,
        0x7FFE_FFFF_0000,
    ):
        assert judge(architecture, "mremap", address, 4096, 1 << 31, 1) == ALLOW, hex(address)
    unknown = session_filter(architecture)
    assert verdict(unknown, architecture.audit, architecture.numbers["mremap"], (0x5555_0000_0000, 4096)) == EPERM


@BOTH
def test_sockets_are_only_spoken_through(architecture: Architecture) -> None:
    out_of_band, dont_wait, no_signal, close_on_exec, zero_copy, fast_open = 1, 0x40, 0x4000, 0x40000000, 0x4000000, 0x20000000
    for name, before in (("sendmsg", (3, 1)), ("recvmsg", (3, 1)), ("sendto", (3, 1, 1)), ("recvfrom", (3, 1, 1))):
        for flags in (0, dont_wait, no_signal | dont_wait, close_on_exec):
            assert judge(architecture, name, *before, flags) == ALLOW
        for flags in (out_of_band, out_of_band | dont_wait, zero_copy, fast_open, 0x80000000):
            assert judge(architecture, name, *before, flags) == EPERM
    kind, peers_identity, peers_pidfd, filter_program = 3, 17, 77, 26
    assert judge(architecture, "getsockopt", 3, 1, kind) == ALLOW
    for option in (peers_identity, peers_pidfd, filter_program):
        assert judge(architecture, "getsockopt", 3, 1, option) == EPERM
    assert judge(architecture, "getsockopt", 3, 6, kind) == EPERM, "another level"


@BOTH
def test_rare_ways_of_common_calls_are_refused(architecture: Architecture) -> None:
    keep_size, punch_hole, whiteout, notifications, direct = 1, 2, 4, 0o200, 0o40000
    wait, wake, lock_pi, requeue_pi, private, real_time = 0, 1, 6, 11, 128, 256
    allowed: list[tuple[str, tuple[int, ...]]] = [
        *(("fallocate", (3, 0)), ("pipe2", (0x1000, 0o2004000))),
        *(("renameat2", (-100, 1, -100, 1, flags)) for flags in (0, 1, 2)),
        *(("futex", (0x1000, operation | private)) for operation in (wait, wake, 9 | real_time, 10)),
    ]
    refused: list[tuple[str, tuple[int, ...]]] = [
        *(("fallocate", (3, mode)) for mode in (keep_size, keep_size | punch_hole, 0x40)),
        *(("pipe2", (0x1000, flags)) for flags in (notifications, direct, notifications | 0o2000000)),
        *(("renameat2", (-100, 1, -100, 1, flags)) for flags in (whiteout, whiteout | 1)),
        *(("futex", (0x1000, operation | private)) for operation in (lock_pi, 7, 8, requeue_pi, 12, 13, 2)),
    ]
    for calls, outcome in ((allowed, ALLOW), (refused, EPERM)):
        for name, arguments in calls:
            assert judge(architecture, name, *arguments) == outcome, (name, arguments)


@BOTH
def test_properties_of_files_are_changed_in_name_only(architecture: Architecture) -> None:
    modes, owners = ("chmod", "fchmod", "fchmodat", "fchmodat2"), ("chown", "fchown", "lchown", "fchownat")
    for name in (*modes, *owners, "utime", "utimes", "futimesat", "utimensat", "fsync", "fdatasync", "flock"):
        if name in architecture.numbers:
            assert judge(architecture, name, 1, 2, 3) == errno_verdict(0)
            assert judge(architecture, name, 1, 0, 3) == errno_verdict(0)
    for name in ("getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "flistxattr"):
        assert judge(architecture, name, 1, 2, 3) == errno_verdict(errno.EOPNOTSUPP)


@BOTH
def test_in_a_private_root_times_may_be_set_and_nothing_else_differs(architecture: Architecture) -> None:
    usual, rooted = verdicts(STACK), verdicts(STACK, private_root=True)
    assert {name for name in rooted if rooted[name] != usual[name]} == {"utimensat"}
    program = session_filter(architecture, STACK, private_root=True)
    assert verdict(program, architecture.audit, architecture.numbers["utimensat"], (-100, 1, 1)) == ALLOW


@BOTH
def test_no_file_is_made_that_gives_rights(architecture: Architecture) -> None:
    create, temporary, set_user, set_group = 0o101, 0o20200001, 0o4000, 0o2000
    for bits in (set_user, set_group, set_user | set_group):
        for flags in (create, temporary):
            assert judge(architecture, "openat", -100, 1, flags, bits | 0o755) == EPERM
            assert judge(architecture, "openat", -100, 1, flags, 0o755) == ALLOW
        assert judge(architecture, "openat", -100, 1, 0, bits) == ALLOW, "the mode is not looked at"
        if "creat" in architecture.numbers:
            assert judge(architecture, "creat", 1, bits | 0o755) == EPERM
            assert judge(architecture, "creat", 1, 0o755) == ALLOW
            assert judge(architecture, "open", 1, create, bits | 0o755) == EPERM


@BOTH
def test_what_is_not_opened_for_writing_is_not_truncated(architecture: Architecture) -> None:
    truncate, create, close_on_exec = 0o1000, 0o100, 0o2000000
    for name, before in (("open", (1,)), ("openat", (-100, 1))):
        if name in architecture.numbers:
            for flags in (0, 1, 2, truncate | 1, truncate | 2, truncate | create | close_on_exec | 1, close_on_exec):
                assert judge(architecture, name, *before, flags) == ALLOW, oct(flags)
            for flags in (truncate, truncate | 3, truncate | create | close_on_exec, truncate | HIGH):
                assert judge(architecture, name, *before, flags) == EPERM, oct(flags)


# --- the assembler ----------------------------------------------------------------------------------------

_WORDS = st.integers(0, 2**32 - 1) | st.integers(0, 5)
_CONDITIONS = st.builds(
    Condition,
    argument=st.integers(0, 5),
    values=st.lists(_WORDS, min_size=1, max_size=4).map(tuple),
    mask=st.sampled_from([0xFFFFFFFF, 0x3, 0xFF00]),
    upper=st.booleans(),
)
_OUTCOMES = st.sampled_from([ALLOW, NOTIFY, EPERM, errno_verdict(0)])
_CASES = st.builds(
    Cases,
    cases=st.lists(st.tuples(st.lists(_CONDITIONS, max_size=3).map(tuple), _OUTCOMES), max_size=3).map(tuple),
    otherwise=_OUTCOMES,
)
_TABLES: st.SearchStrategy[dict[int, Verdict]] = st.dictionaries(
    st.integers(0, 60), _OUTCOMES | _CASES, min_size=1, max_size=20
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(_TABLES, st.lists(_WORDS | _WORDS.map(lambda word: word << 32), min_size=6, max_size=6))
def test_the_filter_says_what_the_table_says(table: dict[int, Verdict], arguments: list[int]) -> None:
    program = assemble(X86_64, table, EPERM)
    for number in range(70):
        assert verdict(program, X86_64.audit, number, arguments) == _expected(table.get(number, EPERM), arguments)


def _expected(wanted: Verdict, arguments: list[int]) -> int:
    if isinstance(wanted, int):
        return wanted
    for conditions, outcome in wanted.cases:
        if all(_holds(condition, arguments[condition.argument]) for condition in conditions):
            return outcome
    return wanted.otherwise


def _holds(condition: Condition, argument: int) -> bool:
    half = argument >> 32 if condition.upper else argument % HIGH
    return half & condition.mask in condition.values


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_word_is_compared_in_all_its_bits(wanted: int, argument: int) -> None:
    program = assemble(X86_64, {0: Cases(((word(1, wanted), ALLOW),), EPERM)}, EPERM)
    assert verdict(program, X86_64.audit, 0, (0, wanted)) == ALLOW
    assert verdict(program, X86_64.audit, 0, (0, argument)) == (ALLOW if argument == wanted else EPERM)


def test_programs_are_within_the_kernels_bound_and_the_same_every_time() -> None:
    for architecture in (X86_64, AARCH64):
        program = session_filter(architecture)
        assert program == session_filter(architecture)
        assert len(program) % 8 == 0
        assert len(program) // 8 < 1024  # the kernel takes 4096
