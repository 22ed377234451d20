"""Keeps this process's memory in huge pages, so that its forks are cheaper.

A fork copies an entry for every page that was written. One huge page of 2 MiB needs one entry instead of 512; the first
write of a copy splits it again, so only what sessions never touch, most of what imports leave behind, stays huge.
"""

import ctypes
import os

_HUGE = 2 << 20
_MADV_COLLAPSE = 25


def collapse(maps: int) -> None:
    """Joins the pages of the heap and of other memory without a file; does nothing where the kernel cannot.

    Args:
        maps: a descriptor of this process's `maps` in `/proc`; it is closed.
    """
    with open(maps, encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().splitlines()
    madvise = ctypes.CDLL(None).madvise
    for line in lines:
        span, mode, *_, name = (*line.split(None, 5), "")[:6]
        if mode == "rw-p" and name in ("", "[heap]"):
            first, last = (int(place, 16) for place in span.split("-"))
            start, end = -(-first // _HUGE) * _HUGE, last // _HUGE * _HUGE
            if start < end:
                madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_COLLAPSE)


def open_maps(processes: int) -> int:
    """Returns the descriptor that `collapse` wants.

    Args:
        processes: a descriptor of the proc file system.

    Raises:
        OSError: it cannot be opened.
    """
    return os.open("self/maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=processes)
