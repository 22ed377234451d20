"""Turns a table of verdicts into a seccomp filter: a pure function of the architecture and the table.

The filter checks the architecture, finds the call's number by bisection and, for calls whose verdict
depends on their arguments, tests those. Filters never follow pointers, so a verdict can depend on
integers only.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .syscalls import Architecture

KILL = 0x80000000
NOTIFY = 0x7FC00000
ALLOW = 0x7FFF0000
_ERRNO = 0x00050000

_LOAD, _AND, _RETURN, _JUMP = 0x20, 0x54, 0x06, 0x05
_IF_EQUAL, _IF_AT_LEAST = 0x15, 0x35
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_FURTHEST = 255  # a conditional jump has eight bits


def errno_verdict(code: int) -> int:
    """Returns the verdict "not made, this error instead"; 0 pretends success."""
    return _ERRNO | code


@dataclass(frozen=True)
class Condition:
    """A condition on one half of an argument; of an `int`, the kernel ignores the upper one.

    Args:
        argument: its position, from 0.
        values: the condition holds if the masked half is one of these.
        mask: which of its bits count.
        upper: test the upper 32 bits instead of the lower ones.
    """

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    upper: bool = False


def word(argument: int, value: int) -> tuple[Condition, Condition]:
    """Returns the conditions for an argument that is this number, in all 64 bits: for pointers and `long`."""
    return Condition(argument, (value % 2**32,)), Condition(argument, (value >> 32,), upper=True)


@dataclass(frozen=True)
class Cases:
    """A verdict that depends on arguments: that of the first case whose conditions all hold, else `otherwise`."""

    cases: tuple[tuple[tuple[Condition, ...], int], ...]
    otherwise: int


Verdict = int | Cases
Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand
Block = list[Instruction]  # position-independent: every path through it returns


def assemble(architecture: Architecture, verdicts: Mapping[int, Verdict], default: int) -> bytes:
    """Returns the filter's machine code, eight bytes per instruction.

    Args:
        architecture: calls of any other, and x32's on x86_64, kill the process.
        verdicts: what happens to a call, by its number.
        default: what happens to all others.
    """
    block: Block = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 1, 0, architecture.audit),
        (_RETURN, 0, 0, KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if architecture.other_abi_from is not None:
        block += [(_IF_AT_LEAST, 0, 1, architecture.other_abi_from), (_RETURN, 0, 0, KILL)]
    block += _bisect(_ranges(verdicts, default))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in block)


def _ranges(verdicts: Mapping[int, Verdict], default: int) -> list[tuple[int, Verdict]]:
    """Returns (first number, verdict) of every longest run of numbers that share a verdict, in order."""
    runs: list[tuple[int, Verdict]] = [(0, verdicts.get(0, default))]
    for number in range(1, max(verdicts, default=0) + 2):
        verdict = verdicts.get(number, default)
        if verdict != runs[-1][1]:
            runs.append((number, verdict))
    return runs


def _bisect(runs: Sequence[tuple[int, Verdict]]) -> Block:
    if len(runs) == 1:
        return _leaf(runs[0][1])
    middle = len(runs) // 2
    lower, upper = _bisect(runs[:middle]), _bisect(runs[middle:])
    first = runs[middle][0]
    if len(lower) <= _FURTHEST:
        return [(_IF_AT_LEAST, len(lower), 0, first), *lower, *upper]
    return [(_IF_AT_LEAST, 0, 1, first), (_JUMP, 0, 0, len(lower)), *lower, *upper]


def _leaf(verdict: Verdict) -> Block:
    if isinstance(verdict, int):
        return [(_RETURN, 0, 0, verdict)]
    block: Block = []
    for conditions, outcome in verdict.cases:
        block += _case(conditions, outcome)
    return [*block, (_RETURN, 0, 0, verdict.otherwise)]


def _case(conditions: Sequence[Condition], outcome: int) -> Block:
    """Returns a block that returns the outcome if all conditions hold, and otherwise runs off its end."""
    block: Block = [(_RETURN, 0, 0, outcome)]
    for condition in reversed(conditions):
        block = _condition(condition, len(block)) + block
    return block


def _condition(condition: Condition, rest: int) -> Block:
    """Returns a block that falls through if the condition holds and otherwise jumps over the `rest` that follows."""
    half = _ARGUMENTS + 8 * condition.argument + 4 * condition.upper
    comparisons: Block = []
    for index, value in enumerate(reversed(condition.values)):
        comparisons.insert(0, (_IF_EQUAL, index, rest if index == 0 else 0, value))
    masking: Block = [(_AND, 0, 0, condition.mask)] if condition.mask != 0xFFFFFFFF else []
    return [(_LOAD, 0, 0, half), *masking, *comparisons]
