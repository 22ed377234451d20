"""Three ways to answer a question: from a cache, from a recording that grows, or from a recording alone.

What must hold for a run to be repeated bit for bit: whatever a call was told while the run was recorded, the same call at the
same place is told again. A success counts for every equal call from the moment it is stored. A failure counts for the place
where it happened and is stored only as long as there is no success; so each place has one answer, whatever the threads do.
"""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ...errors import ConfigError, NotRecorded, ToolFault
from .credentials import without_credentials
from .flights import Flights
from .questions import Question
from .store import Found, Store, Value

GRACE = 0.1
"""Seconds that a call may come too late: it should know itself that its time is over."""


@dataclass(frozen=True)
class Answer:
    """What a call returned.

    Args:
        value: bytes or JSON; JSON if it failed.
        failed: it may succeed at another time, so it counts only for the place where it was made.
    """

    value: Value
    failed: bool = False


Live = Callable[[], Answer]
"""Makes the call."""


class Answers(Protocol):
    """Answers questions about what does not change; `live` is called only if there is no answer yet."""

    def answer(self, question: Question, live: Live, *, timeout: float) -> Answer:
        """Returns the answer within `timeout` seconds.

        Raises:
            TimeoutError: there was none in time.
            ToolFault: the call failed, or there is no answer.
        """
        ...


@dataclass(frozen=True)
class Cache(Answers):
    """Keeps answers for all runs that use a file; what failed is asked again.

    Args:
        store: holds the answers, and the calls under way: each environment may have a cache of its own.
    """

    store: Store

    def answer(self, question: Question, live: Live, *, timeout: float) -> Answer:
        """Returns what is stored, or calls and stores what succeeds."""
        found = self.store.find(question.key)
        if found is not None:
            return Answer(found.value)
        answer: Answer = self.store.flights.wait(question.key, lambda: _kept(self.store, question, live), timeout + GRACE)
        return answer


class Tally:
    """Counts from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, what: str) -> None:
        """Counts one."""
        with self._lock:
            self._counts[what] += 1

    def __getitem__(self, what: str) -> int:
        """Returns how often something was counted."""
        return self._counts[what]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as new."""
        return Tally, ()


@dataclass(frozen=True)
class Recorder(Answers):
    """Makes each call once and records it, failures and time-outs included; belongs to one run.

    Args:
        store: the recording.
        scope: part of the run, so that places which occur in several parts differ.
        tally: counts "answered", "live" and "failed" calls.
        flights: the calls under way.
    """

    store: Store
    scope: str = ""
    tally: Tally = field(default_factory=Tally, compare=False)
    flights: Flights[Answer] = field(default_factory=Flights, compare=False)

    def within(self, scope: str) -> "Recorder":
        """Returns the same recorder in another part of the run."""
        return replace(self, scope=scope)

    def answer(self, question: Question, live: Live, *, timeout: float) -> Answer:
        """Returns what is recorded for the place or the call; otherwise calls, and records what came of it."""
        here = question.here(self.scope)
        self.tally.add("answered")
        found, cause = self.store.find(here, question.key), None
        if found is None:
            failure, cause = self._failure(question, live, timeout)
            if failure is None:
                found = self.store.find(here, question.key)
                assert found is not None, "a success is stored before anybody is told"
            else:
                found = self.store.settle(question.subject, without_credentials(failure), at=here, unless=question.key)
        if found.key == here:
            self.tally.add("failed")
        return _told(found, here, cause)

    def _failure(self, question: Question, live: Live, timeout: float) -> tuple[dict[str, Any] | None, Exception | None]:
        """Makes the call, or waits for an equal one; returns how it failed and what it raised, (None, None) for a success."""
        try:
            answer = self.flights.wait(question.key, lambda: _kept(self.store, question, self._counted(live)), timeout + GRACE)
        except ConfigError:  # the user's mistake, which ends the run
            raise
        except Exception as error:  # noqa: BLE001  # a tool may fail in any way; it will fail like that again in a replay
            return _raised(error), error
        return ({"failed": answer.value} if answer.failed else None), None

    def _counted(self, live: Live) -> Live:
        def call() -> Answer:
            self.tally.add("live")
            return live()

        return call


@dataclass(frozen=True)
class Replayer(Answers):
    """Answers from a recording alone; never makes a call.

    Args:
        store: the recording.
        scope: part of the run, as when it was recorded.
        tally: counts "answered", "failed" and "missing" calls.
    """

    store: Store
    scope: str = ""
    tally: Tally = field(default_factory=Tally, compare=False)

    def within(self, scope: str) -> "Replayer":
        """Returns the same replayer in another part of the run."""
        return replace(self, scope=scope)

    def answer(self, question: Question, live: Live, *, timeout: float) -> Answer:
        """Returns what is recorded for the place or the call.

        Raises:
            NotRecorded: there is nothing.
        """
        here = question.here(self.scope)
        found = self.store.find(here, question.key)
        if found is None:
            self.tally.add("missing")
            raise NotRecorded(self._missing(question))
        self.tally.add("answered")
        if found.key == here:
            self.tally.add("failed")
        return _told(found, here, None)

    def _missing(self, question: Question) -> str:
        if self.store.knows(question.subject):
            return (
                f"The recording has no answer to this call of {question.name}. To repeat a run, keep its policy, seed and "
                "options, and the number of threads."
            )
        return (
            f"The recording has no call of {question.name} in this version and configuration. Set it up as in the recorded run."
        )


def _kept(store: Store, question: Question, live: Live) -> Answer:
    """Makes a call and stores its success, before the next one who asks the same may find nothing under way."""
    found = store.find(question.key)
    if found is None:
        answer = live()
        if answer.failed:
            return answer
        found = store.settle(question.subject, without_credentials(answer.value), at=question.key)
    return Answer(found.value)


def _raised(error: Exception) -> dict[str, Any]:
    """Returns an error as JSON: a time-out stays one, all else is a fault of the tool."""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001  # an error whose message cannot be made is still an error
        said = ""
    if isinstance(error, TimeoutError):
        return {"raised": "TimeoutError", "message": said}
    name = "" if type(error) is ToolFault else f"{type(error).__name__}: "
    return {"raised": "ToolFault", "message": f"{name}{said}"}


def _told(found: Found, here: bytes, cause: Exception | None) -> Answer:
    """Returns or raises what is recorded, in the same words whether it has just happened or is replayed."""
    if found.key != here:
        return Answer(found.value)
    if "failed" in found.value:
        return Answer(found.value["failed"], failed=True)
    kind = TimeoutError if found.value["raised"] == "TimeoutError" else ToolFault
    raise kind(*filter(None, [found.value["message"]])) from cause
