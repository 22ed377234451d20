"""What a conformance check says: the laws by name, findings, and a report a person can read."""

import enum
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent

from arpo_envs import ArpoError

_FINDINGS_PER_LAW = 3


class Law(enum.StrEnum):
    """What must hold of a policy; the value is the law as a sentence."""

    SHAPES = "a generation is well-formed"
    LIMITS = "an action ends after max_tokens at the latest, and finish says why it ended"
    EXACT_IDS = "the model sees the ids of the context, whatever they spell"
    LOGPROBS = "log-probabilities are the model's, at the temperature"
    ENTROPIES = "entropies are the model's"
    GREEDY = "at temperature 0 the likeliest token is drawn"
    DRAWS = "tokens are drawn from the whole distribution"
    STOP_TOKENS = "a stop token ends the action and belongs to it"
    STOP_STRINGS = "the first stop string ends the action and belongs to it"
    STOP_SEAM = "a stop string is found across the seam between a probe and its continuation"
    SEEDS = "the same seed draws the same tokens"
    SIBLINGS = "different seeds draw different tokens"
    SPLIT = "a probe and its continuation equal one call"
    BATCH = "a result does not depend on who else is there"
    LOAD = "many requests at once each get their own answer"
    UNICODE = "any text may stand in the context, cut anywhere"
    CANCEL = "a cancelled request makes room, and the others go on"
    EMPTY = "an empty request is refused with a ConfigError"
    TOO_LONG = "a request beyond the context length is refused with a ConfigError that names it"
    VERSION = "generations report the version of the weights that were loaded last"
    WEIGHTS = "after a load, log-probabilities are the new weights'"
    STALE = "after a load, nothing remembered under the old weights is used"
    CLOSE = "closing ends what is under way, and may be done twice"


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

    >>> print(Report("MyPolicy", (Law.SHAPES,), (), {Law.GREEDY: "it cannot"}))
    MyPolicy: 1 passed, 0 failed, 1 skipped
      passed   a generation is well-formed
      skipped  at temperature 0 the likeliest token is drawn: it cannot
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


Checks = Mapping[Law, Callable[[], AsyncIterator[Finding]]]
"""For each law, in order, what looks for findings against it."""


async def judge(subject: str, checks: Checks, *, first: frozenset[Law], skip: Mapping[Law, str]) -> Report:
    """Runs the checks and collects a report.

    Args:
        subject: what is checked.
        checks: for each law, what yields findings or raises `SkippedLaw`.
        first: laws without which the others mean nothing: when one of them is broken, the rest is skipped.
        skip: laws that the caller says do not apply, each with the reason.
    """
    passed: list[Law] = []
    findings: list[Finding] = []
    skipped: dict[Law, str] = {}
    for law, check in checks.items():
        broken = next((finding.law for finding in findings if finding.law in first), None)
        if broken is not None or law in skip:
            skipped[law] = skip[law] if broken is None else f"needs the law that {broken}"
            continue
        try:
            found = await _some(check())
        except SkippedLaw as reason:
            skipped[law] = str(reason)
            continue
        except Exception as error:  # noqa: BLE001  # a policy may fail in any way; that is a finding, not a crash of the kit
            found = [_crash(law, error)]
        findings += found
        if not found:
            passed.append(law)
    return Report(subject, tuple(passed), tuple(findings), skipped)


async def _some(check: AsyncIterator[Finding]) -> list[Finding]:
    found: list[Finding] = []
    async for finding in check:
        found.append(finding)
        if len(found) == _FINDINGS_PER_LAW:
            break
    return found


def _crash(law: Law, error: Exception) -> Finding:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{frame.name}, {Path(frame.filename).name} line {frame.lineno}"
    if isinstance(error, TimeoutError):
        return Finding(law, "no answer came in time", "an answer", "A request hangs: is a place taken and never given back?")
    happened = f"{type(error).__name__}: {error} (raised in {place})"
    return Finding(law, happened, "no exception", "Do what the exception says.")
