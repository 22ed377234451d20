"""Memory of this process as the kernel counts it: what C++ allocates, and what is held for a moment, included."""

from pathlib import Path


def most_held() -> int:
    """Returns the most bytes of memory that this process has held."""
    return _counted("VmHWM")


def held_now() -> int:
    """Returns the bytes of memory that this process holds."""
    return _counted("VmRSS")


def _counted(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))
