"""Counts what a program has on this machine: processes, and what is in its closed folders."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def children(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                if int(fields[1]) == pid:
                    found.append(int(name))
    return found


def descendants(pid: int) -> list[int]:
    near = children(pid)
    return near + [below for child in near for below in descendants(child)]


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    return False


def listed(folder: Path, depth: int = 2) -> Iterator[list[str]]:
    """Yields what is in a closed folder and in those in it, which are closed as well."""
    mode = folder.stat().st_mode & 0o7777
    folder.chmod(0o511)
    try:
        names = sorted(os.listdir(folder))
    finally:
        folder.chmod(mode)
    yield names
    if depth > 1:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield from listed(folder / name, depth - 1)
