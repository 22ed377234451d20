"""What a conformance check says: the laws by name, findings, and a report a person can read."""

import enum
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from textwrap import indent

from ..errors import ArpoError

_FINDINGS_PER_LAW = 3


class Law(enum.StrEnum):
    """What must hold; the value is the law as a sentence."""

    REPRODUCIBLE = "the same seed and actions give the same episode"
    LEVEL = "the declared fork level is honest"
    REPEATS = "restoring and repeating the actions repeats everything"
    INDEPENDENT = "clones are independent in both directions"
    RESEED = "a clone with a seed draws anew, and reproducibly"
    UNTOUCHED = "a snapshot or clone changes nothing"
    REFUSAL = "foreign and stale snapshots are refused by name"
    TRAVELS = "counters and random state travel"
    CLOSE = "closing one leaves the others alive"
    NO_OBJECT_LEAKS = "no object and no thread leaks"
    NO_HANDLE_LEAKS = "no process and no file descriptor leaks"
    INFO = "mutable things in info are never shared"
    DEEPCOPY = "a plain copy.deepcopy is a clone"
    PORTABLE = "a portable snapshot survives pickling"

    SPECS = "a tool's specifications are well-formed"
    RESULTS = "every call returns a ToolResult"
    MISTAKES = "a model's mistakes are results, not exceptions"


@dataclass(frozen=True)
class Finding:
    """One broken law.

    Args:
        law: the law that was broken.
        happened: what was seen, and where.
        expected: what should have been seen.
        hint: the usual cause, and what to do.
    """

    law: Law
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

    >>> print(Report("CounterEnv", (Law.CLOSE,), (), {Law.RESEED: "nothing is drawn"}))
    CounterEnv: 1 passed, 0 failed, 1 skipped
      passed   closing one leaves the others alive
      skipped  a clone with a seed draws anew, and reproducibly: nothing is drawn
    """

    subject: str
    passed: tuple[Law, ...] = ()
    findings: tuple[Finding, ...] = ()
    skipped: Mapping[Law, str] = field(default_factory=dict)

    @property
    def failed(self) -> tuple[Law, ...]:
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
        """One line per law, and under each broken one its findings."""
        counts = f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"
        lines = [f"{self.subject}: {counts}"]
        lines += [f"  passed   {law}" for law in self.passed]
        lines += [f"  skipped  {law}: {reason}" for law, reason in self.skipped.items()]
        for law in self.failed:
            lines.append(f"  FAILED   {law}")
            lines += [indent(str(finding), " " * 11) for finding in self.findings if finding.law is law]
        return "\n".join(lines)


Checks = Mapping[Law, Callable[[], Iterator[Finding]]]
"""For each law, in order, what looks for findings against it."""


def judge(subject: str, checks: Checks, first: frozenset[Law]) -> Report:
    """Runs the checks and collects a report.

    Args:
        subject: what is checked.
        checks: for each law, what yields findings or raises `SkippedLaw`.
        first: laws without which the others mean nothing: when one of them is broken, the rest is skipped.
    """
    passed: list[Law] = []
    findings: list[Finding] = []
    skipped: dict[Law, str] = {}
    for law, check in checks.items():
        broken = next((finding.law for finding in findings if finding.law in first), None)
        if broken is not None:
            skipped[law] = f"needs the law that {broken}"
            continue
        try:
            found = list(islice(check(), _FINDINGS_PER_LAW))
        except SkippedLaw as reason:
            skipped[law] = str(reason)
            continue
        except Exception as error:  # noqa: BLE001  # the subject may fail in any way; that is a finding, not a crash of the kit
            found = [_crash(law, error)]
        findings += found
        if not found:
            passed.append(law)
    return Report(subject, tuple(passed), tuple(findings), skipped)


def _crash(law: Law, error: Exception) -> Finding:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{frame.name}, {Path(frame.filename).name} line {frame.lineno}"
    return Finding(
        law,
        f"{type(error).__name__}: {error} (raised in {place})",
        "no exception",
        "Do what the exception says; if it comes from your own code, a state it relies on did not travel.",
    )
