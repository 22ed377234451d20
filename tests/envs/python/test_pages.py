"""Huge pages: memory is the same afterwards, in fewer pieces."""

import subprocess
import sys

import pytest

_CODE = """
import mmap, os
from arpo_envs.tools.python.server.pages import collapse, open_maps

def huge():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("AnonHugePages"))

memory = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
pattern = bytes(range(256)) * (len(memory) // 256)
memory[:] = pattern
memory.madvise(mmap.MADV_HUGEPAGE)
before = huge()
maps = open_maps(os.open("/proc", os.O_PATH))
collapse(maps)
assert memory[:] == pattern
try:
    os.fstat(maps)
except OSError:
    print(huge() - before)
"""


def test_memory_is_joined_and_unchanged() -> None:
    """Of eight MiB at an address that need not be a multiple of two, at least six become huge."""
    joined = int(subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=True).stdout)
    if joined == 0:
        pytest.skip("this kernel cannot join pages on request")
    assert joined >= 6 << 10
