"""The numbers of the system calls that a session may make in some way, a second time: the attacks try all others.

They are written out, and not taken from the allow-list, so that a call which slips into that is found.
"""

_X86_64 = """
0-26 28 32-40 44-47 51 55-56 60-61 63 72-75 77-100 102 104 107-108 110-111 115 118 120-121 124-125 127-128 130-132 135
137-138 140 157 186 191-196 201-202 204 217 219 221 228-231 235 247 257-258 260-271 273 280 285 292-293 295-296 302 309 316
318 326-328 332 334 435-436 439 444-446 452
"""

_AARCH64 = """
8-13 17 23-25 29 32 34-38 43-44 46-50 52-57 59 61-73 78-80 82-83 88 90 92-95 98-99 101-103 113-115 123-124 128 132-137 139
141 148 150 153 155-156 158 160 163 165-169 172-179 204 206-207 209 211-212 214-216 220 222-223 226-227 233 260-261 276 278
285-287 291 293 435-436 439 444-446 452
"""


def _numbers(text: str) -> frozenset[int]:
    pairs = (piece.partition("-") for piece in text.split())
    return frozenset(number for first, _, last in pairs for number in range(int(first), int(last or first) + 1))


KNOWN = {"x86_64": _numbers(_X86_64), "aarch64": _numbers(_AARCH64)}
"""By machine, as `uname -m` prints it."""
_UNFILTERED = {"x86_64": frozenset((335, 336)), "aarch64": frozenset[int]()}
"""`uretprobe` and `uprobe`: newer kernels show them to no filter; made without a probe, they kill the process."""
_NONE_FROM = 480
"""Where no kernel has calls yet."""


def unlisted(machine: str) -> list[int]:
    """Returns the numbers of the calls that nothing needs, and that must all be refused."""
    return [number for number in range(_NONE_FROM) if number not in KNOWN[machine] | _UNFILTERED[machine]]
