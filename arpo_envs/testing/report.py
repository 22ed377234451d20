"""What a conformance check says: findings against laws, and a report a person can read; the laws are enums elsewhere."""

import enum
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from textwrap import indent
from typing import TypeVar

from ..errors import ArpoError
from .progress import Progress

_FINDINGS_PER_LAW = 3

L = TypeVar("L", bound=enum.StrEnum)
"""An enum of laws; each value is a law as a sentence."""


@dataclass(frozen=True)
class Finding:
    """One broken law.

    Args:
        law: the law that was broken.
        happened: what was seen, and where.
        expected: what should have been seen.
        hint: the usual cause, and what to do.
    """

    law: enum.StrEnum
    happened: str
    expected: str
    hint: str

    def __str__(self) -> str:
        """Three lines: what happened, what was expected, what to do."""
        return f"{self.happened}\nexpected: {self.expected}\nhint: {self.hint}"


class SkippedLaw(Exception):  # not an error: a law says that it does not apply
    """Raised inside a law that does not apply; its message is the reason."""


class ConformanceError(ArpoError, AssertionError):
    """At least one law is broken; `report` holds the findings."""

    def __init__(self, report: "Report") -> None:
        super().__init__(str(report))
        self.report = report


@dataclass(frozen=True)
class Report:
    """The outcome of a conformance check.

    Args:
        subject: what was checked, as a person would name it.
        passed: the laws that hold.
        findings: what broke the others.
        skipped: the laws that do not apply, each with the reason.
        notes: what a person should know besides the laws.

    >>> from arpo_envs.testing import Law
    >>> print(Report("CounterEnv", (Law.CLOSE,), (), {Law.RESEED: "nothing is drawn"}))
    CounterEnv: 1 passed, 0 failed, 1 skipped
      passed   closing one leaves the others alive
      skipped  a clone with a seed draws anew, and reproducibly: nothing is drawn
    """

    subject: str
    passed: tuple[enum.StrEnum, ...] = ()
    findings: tuple[Finding, ...] = ()
    skipped: Mapping[enum.StrEnum, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[enum.StrEnum, ...]:
        """The broken laws, each once."""
        return tuple(dict.fromkeys(finding.law for finding in self.findings))

    @property
    def ok(self) -> bool:
        """Whether no law is broken."""
        return not self.findings

    def raise_on_failure(self) -> None:
        """Raises `ConformanceError` if a law is broken."""
        if not self.ok:
            raise ConformanceError(self)

    def __str__(self) -> str:
        """One line per law, under each broken one its findings, and then the notes."""
        counts = f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"
        lines = [f"{self.subject}: {counts}"]
        lines += [f"  passed   {law}" for law in self.passed]
        lines += [f"  skipped  {law}: {reason}" for law, reason in self.skipped.items()]
        for law in self.failed:
            lines.append(f"  FAILED   {law}")
            lines += [indent(str(finding), " " * 11) for finding in self.findings if finding.law is law]
        lines += [f"  note     {note}" for note in self.notes]
        return "\n".join(lines)


def judge(
    subject: str,
    checks: Mapping[L, Callable[[], Iterable[Finding]]],
    first: frozenset[L],
    *,
    skip: Mapping[L, str] | None = None,
    advice: str = "Do what the exception says.",
) -> Report:
    """Runs the checks and collects a report; a long check says on standard error which law it is checking.

    Args:
        subject: what is checked.
        checks: for each law, in order, a function that yields findings against it, or raises `SkippedLaw`.
        first: laws without which the others mean nothing: when one of them is broken, the rest is skipped.
        skip: laws that the caller says do not apply, each with the reason.
        advice: the hint for findings that are exceptions.
    """
    passed: list[L] = []
    findings: list[Finding] = []
    skipped: dict[enum.StrEnum, str] = {}
    with Progress(subject, len(checks)) as progress:
        for law, check in checks.items():
            progress.at(law)
            broken = next((finding.law for finding in findings if finding.law in first), None)
            reason = f"needs the law that {broken}" if broken is not None else (skip or {}).get(law)
            found: Sequence[Finding] = ()
            if reason is None:
                found, reason = _checked(law, check, advice)
            if reason is not None:
                skipped[law] = reason
            elif not found:
                passed.append(law)
            findings += found
    return Report(subject, tuple(passed), tuple(findings), skipped)


def _checked(law: L, check: Callable[[], Iterable[Finding]], advice: str) -> tuple[Sequence[Finding], str | None]:
    """Returns what a check finds, or why the law does not apply."""
    found: list[Finding] = []
    try:
        for finding in islice(check(), _FINDINGS_PER_LAW):
            found.append(finding)
    except SkippedLaw as reason:
        return (found, None) if found else ((), str(reason))
    except Exception as error:  # noqa: BLE001  # the subject may fail in any way; that is a finding, not a crash of the kit
        found.append(_crash(law, error, advice))
    return found, None


def _crash(law: enum.StrEnum, error: Exception, advice: str) -> Finding:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{frame.name}, {Path(frame.filename).name} line {frame.lineno}"
    return Finding(law, f"{type(error).__name__}: {error} (raised in {place})", "no exception", advice)
