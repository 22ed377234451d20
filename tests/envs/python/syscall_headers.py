"""Reads system call numbers from the kernel's headers, so that the suite's tables can be checked against them."""

import re
from pathlib import Path

X86_64_HEADERS = (
    Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    Path("/usr/include/asm/unistd_64.h"),
    Path("/usr/x86_64-linux-gnu/include/asm/unistd_64.h"),
)
AARCH64_HEADERS = (
    Path("/usr/aarch64-linux-gnu/include/asm-generic/unistd.h"),
    Path("/usr/include/asm-generic/unistd.h"),
)

_DEFINITION = re.compile(r"^#define\s+__NR(3264)?_(\w+)\s+(?:(\d+)|__NR3264_(\w+))", re.MULTILINE)


def numbers(header: Path) -> dict[str, int]:
    """Returns the numbers by name; `__NR_fcntl` may be defined as `__NR3264_fcntl`, which has the number."""
    direct: dict[str, int] = {}
    shared: dict[str, int] = {}
    aliases: dict[str, str] = {}
    for prefix, name, number, alias in _DEFINITION.findall(header.read_text(encoding="ascii")):
        if number:
            (shared if prefix else direct).setdefault(name, int(number))
        else:
            aliases.setdefault(name, alias)
    return direct | {name: shared[alias] for name, alias in aliases.items() if alias in shared}
