"""Runs classic BPF programs as the kernel would for a seccomp filter: the few instructions such filters use."""

import functools
import struct
from collections.abc import Sequence


def verdict(program: bytes, architecture: int, number: int, arguments: Sequence[int] = ()) -> int:
    """Returns what a filter says about a call."""
    padded = [argument % 2**64 for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("<IIQ6Q", number % 2**32, architecture, 0, *padded)
    instructions = _instructions(program)
    position = accumulator = 0
    while True:
        code, if_true, if_false, operand = instructions[position]
        position += 1
        if code == 0x20:  # load a word
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == 0x54:  # and
            accumulator &= operand
        elif code == 0x05:  # jump
            position += operand
        elif code == 0x15:  # jump if equal
            position += if_true if accumulator == operand else if_false
        elif code == 0x35:  # jump if greater or equal, unsigned
            position += if_true if accumulator >= operand else if_false
        elif code == 0x06:  # return
            return int(operand)
        else:
            raise ValueError(f"no such instruction: {code:#x}")


@functools.lru_cache(maxsize=4)
def _instructions(program: bytes) -> list[tuple[int, ...]]:
    return list(struct.iter_unpack("<HBBI", program))
