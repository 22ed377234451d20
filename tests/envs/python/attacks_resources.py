"""Attacks that take more than their share: memory, processor, output, disk, files."""

import contextlib
import os

from attacks import (
    Attack,
    Expectation,
    Host,
    Seen,
    died,
    fails,
    one_of,
    refused,
    shows,
    stopped,
    times_out,
    undone,
    with_namespaces,
)

DISK_MB = 8
INODES = 256
MEMORY_MB = 160
OUTPUT = 4000
"""What sessions are allowed in these tests: megabytes, files, megabytes, characters."""

SHORT = 0.3
"""Seconds for cells that never end."""
QUICK = 0.2
"""Seconds in which a cell may stop that is known not to."""


def _truncated(seen: Seen) -> str | None:
    if seen.error is not None or len(seen.text) > OUTPUT:
        return "not bounded"
    return None if "characters left out" in seen.text else "not marked as truncated"


def _disk_is_bounded(host: Host) -> str | None:
    """Where nothing bounds a folder, nothing that was too much may be left of it."""
    if host.workdir is None or not host.workdir.exists():
        return None
    taken: dict[int, int] = {}  # by file, whatever number of names it has
    with contextlib.suppress(FileNotFoundError):  # it is being removed
        for _, folders, files, here in os.fwalk(host.workdir):  # by descriptors: no path leads to the deepest ones
            found = [os.stat(name, dir_fd=here, follow_symlinks=False) for name in folders + files]
            taken |= {status.st_ino: status.st_blocks * 512 for status in found}
    total = sum(taken.values())
    return f"{total >> 20} MB on the host's disk" if total > 2 * DISK_MB << 20 else None


def _bounded(*inside: Expectation) -> Expectation:
    """The kernel's answer with namespaces; without, the cell is undone afterwards, which is the weaker guarantee."""
    return with_namespaces(one_of(*inside), one_of(undone, *inside))


MEMORY = (
    Attack("memory_at_once", "import numpy\nnumpy.ones(10**9)", fails("MemoryError")),
    Attack(
        "memory_bit_by_bit",
        "def hoard():\n    kept = []\n    while True:\n        kept.append(bytes(1 << 16))\nhoard()",
        fails("MemoryError"),
    ),
    Attack("memory_kept", "kept = []\nwhile True:\n    kept.append(bytes(1 << 20))", fails("MemoryError")),
    Attack(
        "memory_kept_in_small_pieces",
        "kept = []\nwhile True:\n    kept.append([None] * 50)",
        fails("MemoryError"),
        seconds=30.0,
    ),
    Attack("memory_of_a_list", "[0] * 10**12", fails("MemoryError")),
    Attack(
        "memory_of_a_number",
        "10 ** (10 ** 11)",
        one_of(fails("MemoryError", "OverflowError"), times_out, stopped),
        seconds=SHORT,
    ),
    Attack(
        "memory_by_mappings",
        """
kept = []
try:
    while len(kept) < 4096:
        kept.append(mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        kept[-1][0] = 1
except (OSError, MemoryError):
    pass
len(kept) < 200""",
        shows("True"),
    ),
    Attack(
        "memory_by_protection",
        """
# Mapped without rights, which is not counted, and made writable afterwards.
kept, before = [], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
libc.mmap.restype, libc.mmap.argtypes = ctypes.c_long, [ctypes.c_long] * 6
libc.mprotect.argtypes = [ctypes.c_long] * 3
for _ in range(512):
    place = libc.mmap(0, 1 << 20, 0, 0x22, -1, 0)
    if place < 0 or libc.mprotect(place, 1 << 20, 3) != 0:
        break
    ctypes.memset(place, 1, 1 << 20)
    kept.append(place)
len(kept) < 200""",
        shows("True"),
    ),
    Attack(
        "stack",
        "def deeper(): return deeper()\nsys.setrecursionlimit(10**9)\ndeeper()",
        one_of(died, times_out, stopped, fails("RecursionError", "MemoryError")),
        seconds=0.5,
    ),
    Attack(
        "locks_without_end",
        """
file = open("locked", "w")
number = 0
while True:
    fcntl.lockf(file, fcntl.LOCK_EX, 1, number)
    number += 2""",
        one_of(times_out, fails("OSError")),
        seconds=SHORT,
    ),
)

PROCESSOR = (
    Attack("loop", "counter = 42\nwhile True: pass", times_out, after=("counter", "42"), seconds=SHORT),
    Attack(
        "loop_that_swallows_everything",
        "while True:\n    try:\n        spin()\n    except BaseException:\n        pass",
        one_of(times_out, stopped),
        seconds=SHORT,
        grace=QUICK,
    ),
    Attack("loop_in_a_regular_expression", 're.match("(a+)+$", "a" * 64 + "b")', times_out, seconds=SHORT),
    Attack("loop_in_c", "sum(range(10**13))", one_of(stopped, times_out), seconds=SHORT, grace=QUICK),
    Attack("sleep", "time.sleep(1000)", times_out, seconds=SHORT),
    Attack(
        "alarm_ignored",
        "counter = 0\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nspin()",
        stopped,
        seconds=SHORT,
        grace=QUICK,
    ),
    Attack(
        "signals_blocked",
        "counter = 0\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nspin()",
        stopped,
        seconds=SHORT,
        grace=QUICK,
    ),
    Attack(
        "timer_cleared", "counter = 0\nsignal.setitimer(signal.ITIMER_REAL, 0)\nspin()", stopped, seconds=SHORT, grace=QUICK
    ),
    Attack(
        "handler_of_its_own",
        "counter = 0\nsignal.signal(signal.SIGALRM, lambda *_: spin())\nspin()",
        stopped,
        seconds=SHORT,
        grace=QUICK,
    ),
    Attack("wait_for_a_signal", "signal.sigwait([signal.SIGUSR1])", one_of(times_out, stopped), seconds=SHORT, grace=QUICK),
    Attack("wait_for_a_pipe", "ends = os.pipe()\nos.read(ends[0], 1)", times_out, seconds=SHORT),
    Attack("wait_for_input", "input()", fails("EOFError")),
)

PRINTING = (
    Attack("print_much", 'print("x" * 10**8)', _truncated),
    Attack("print_often", "for number in range(50_000):\n    print(number)", _truncated),
    Attack("print_errors_much", 'sys.stderr.write("é" * 10**7)\nNone', _truncated),
    Attack("print_bytes", 'sys.stdout.buffer.write(b"\\xff" * 10**6)\nNone', _truncated),
    Attack("show_much", '"x" * 10**7', _truncated),
    Attack(
        "raise_much",
        'raise ValueError("x" * 10**7)',
        lambda seen: None if seen.error == "error" and len(seen.text) <= OUTPUT else "not bounded",
    ),
    Attack(
        "write_to_descriptors", '[os.write(file, b"x" * 10**6) for file in (0, 1, 2)]', shows("[1000000, 1000000, 1000000]")
    ),
    Attack(
        "descriptors_without_end",
        """
kept = []
try:
    while True:
        kept.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    name = errno.errorcode[error.errno]
count = len(kept)
for file in kept:
    os.close(file)
name, count <= 64""",
        shows("('EMFILE', True)"),
    ),
    Attack(
        "descriptors_kept",
        'kept = []\nwhile True:\n    kept.append(os.open("/dev/null", os.O_RDONLY))',
        fails("Too many open files"),
    ),
    Attack(
        "descriptors_kept_by_the_original",
        "len(kept)",
        shows("60"),
        before="""
kept = []
try:
    while True:
        kept.append(os.open(".", os.O_RDONLY))
except OSError:
    pass""",
    ),
)

FULL = ("No space left", "File too large")
DISK = (
    Attack("disk_in_one_file", 'open("big", "wb").write(bytes(64 << 20))', _bounded(fails(*FULL)), host=_disk_is_bounded),
    Attack(
        "disk_in_many_files",
        'for number in range(32):\n    open(f"big{number}", "wb").write(bytes(1 << 20))',
        _bounded(fails(*FULL)),
        host=_disk_is_bounded,
    ),
    Attack(
        "disk_reserved",
        'os.posix_fallocate(os.open("big", os.O_CREAT | os.O_RDWR), 0, 64 << 20)',
        _bounded(fails(*FULL)),
        host=_disk_is_bounded,
    ),
    Attack(
        "files_without_end",
        'for number in range(1000):\n    open(f"file{number}", "w").close()',
        _bounded(fails(*FULL)),
        host=_disk_is_bounded,
    ),
    Attack(
        "folders_without_end",
        'for number in range(1000):\n    os.mkdir(f"folder{number}")',
        _bounded(fails(*FULL)),
        host=_disk_is_bounded,
    ),
    Attack(
        "links_without_end",
        'for number in range(1000):\n    os.symlink("x" * 1000, f"link{number}")',
        _bounded(fails(*FULL)),
        host=_disk_is_bounded,
    ),
    Attack(
        "deep_folders",
        'for _ in range(60):\n    os.mkdir("d" * 200)\n    os.chdir("d" * 200)',
        one_of(shows(""), undone),  # what no path leads to cannot be counted
        host=_disk_is_bounded,
    ),
    Attack(
        "disk_in_files_without_a_name",
        """
kept = []
for number in range(8):
    kept.append(open("big", "wb"))
    kept[-1].write(bytes(4 << 20)), kept[-1].flush(), os.remove("big")""",
        _bounded(fails(*FULL)),
        host=_disk_is_bounded,
    ),
    Attack(
        "disk_in_mapped_files_without_a_name",
        """
libc.mmap.restype, libc.mmap.argtypes = ctypes.c_long, [ctypes.c_long] * 6
for number in range(8):
    with open("big", "wb+") as file:
        file.write(bytes(4 << 20)), file.flush()
        place = libc.mmap(0, 4096, 1, 2, file.fileno(), 0)
    os.remove("big")""",
        _bounded(fails(*FULL)),
        host=_disk_is_bounded,
    ),
    Attack(
        "disk_below_deep_folders",
        """
for _ in range(25):
    os.mkdir("d" * 200)
    os.chdir("d" * 200)
for number in range(32):
    open(f"big{number}", "wb").write(bytes(1 << 20))""",
        _bounded(fails(*FULL)),
        host=_disk_is_bounded,
    ),
    Attack(
        "disk_in_a_folder_that_cannot_be_listed",
        """
os.mkdir("blind", 0o300)
for number in range(32):
    open(f"blind/big{number}", "wb").write(bytes(1 << 20))""",
        _bounded(fails(*FULL)),
        host=_disk_is_bounded,
    ),
    Attack(
        "files_full_of_holes",
        'for number in range(40):\n    with open(f"hole{number}", "wb") as file:\n        file.truncate(8 << 20)',
        one_of(shows(""), undone),
        host=_disk_is_bounded,
    ),
    Attack(
        "one_file_with_many_names",
        'open("file", "wb").write(bytes(4 << 20))\nfor number in range(40):\n    os.link("file", f"name{number}")',
        one_of(shows(""), undone),
        host=_disk_is_bounded,
    ),
    Attack(
        "files_that_cannot_be_read",
        'os.umask(0o777)\nos.close(os.open("closed", os.O_CREAT | os.O_WRONLY))\nos.mkdir("folder")',
        one_of(shows(""), undone),
    ),
    Attack(
        "named_pipes",
        '{"pipe": tried(os.mkfifo, "pipe"), "socket": tried(os.mknod, "socket", 0o140600)}',
        refused("EPERM", "EACCES"),
    ),
    Attack(
        "links_in_circles", 'os.symlink("circle", "circle")\nos.symlink(".", "here")\ntried(open, "circle")', shows("'ELOOP'")
    ),
    Attack(
        "odd_names",
        """
for name in (b"\\xff\\xfe", b"line\\nbreak", b"x" * 255, b"-rf", b" "):
    open(name, "w").write("x")
len(os.listdir("."))""",
        shows("5"),
    ),
)

RESOURCES = (*MEMORY, *PROCESSOR, *PRINTING, *DISK)
