"""The discrete-event core: a clock with a heap of events, and an engine whose rows share its rounds."""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from .machine import Machine

_ROUNDING = 1e-9
"""Of a token: rows that end in the same round may differ by rounding."""


class Events:
    """What happens, in order of time; of events at the same time, the one that was announced first comes first."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, time: float, happen: Callable[[], None]) -> None:
        """Announces an event."""
        heapq.heappush(self._heap, (time, next(self._order), happen))

    def run(self, until: Callable[[], bool]) -> None:
        """Lets events happen until a condition holds, or there are none."""
        while self._heap and not until():
            self.now, _, happen = heapq.heappop(self._heap)
            happen()


@dataclass
class Request:
    """Tokens to draw for one path.

    Args:
        tokens: to draw.
        prefill: tokens to read before that.
        context: tokens of the whole path so far, which another engine would have to read.
        done: called when they are drawn.
        lost: called with the tokens drawn so far if the engine dies.
    """

    tokens: int
    prefill: int
    context: int
    done: Callable[[], None]
    lost: Callable[["Request", float], None]


@dataclass
class Spent:
    """What engines did: the amounts that constants are multiplied with.

    Args:
        rounds: decoding rounds.
        requests: that were admitted, those that were lost included.
        drawn: tokens, those that were lost included.
        prefilled: tokens that were read.
        busy: seconds in which an engine had work.
    """

    rounds: float = 0.0
    requests: int = 0
    drawn: float = 0.0
    prefilled: float = 0.0
    busy: float = 0.0


@dataclass
class Engine:
    """An engine with continuous batching: each of B rows gains a token per round, and a prefill holds up all of them.

    Rounds are not simulated one by one. `progress` is how many tokens a row has gained that was there from the start, and a row
    ends when it reaches a value that is known when the row joins; so an event is needed only when rows join or leave.

    Args:
        events: the clock.
        machine: gives the constants.
        spent: is added to.
    """

    events: Events
    machine: Machine
    spent: Spent
    alive: bool = True
    progress: float = 0.0
    _since: float = 0.0
    _reading_until: float = 0.0
    _rows: list[tuple[float, int, Request, float]] = field(default_factory=list)
    _waiting: "deque[Request]" = field(default_factory=deque)
    _order: "count[int]" = field(default_factory=count)
    _version: int = 0

    @property
    def load(self) -> int:
        """How many requests it has."""
        return len(self._rows) + len(self._waiting)

    @property
    def _round(self) -> float:
        return self.machine.round_seconds + self.machine.row_seconds * len(self._rows)

    def submit(self, request: Request) -> None:
        """Takes a request; it waits if there are too many rows."""
        self._advance()
        self._waiting.append(request)
        self._fill()

    def die(self) -> None:
        """Loses everything it had."""
        self._advance()
        self.alive = False
        self._version += 1
        lost = [(row[2], self.progress - row[3]) for row in sorted(self._rows)] + [(request, 0.0) for request in self._waiting]
        self._rows, self._waiting, self._reading_until = [], deque(), 0.0
        for request, drawn in lost:
            request.lost(request, drawn)

    def _advance(self) -> None:
        """Brings `progress` up to date."""
        now, start = self.events.now, max(self._since, self._reading_until)
        if self._rows:
            self.spent.busy += now - self._since
            if now > start:
                gained = (now - start) / self._round
                self.progress += gained
                self.spent.rounds += gained
                self.spent.drawn += gained * len(self._rows)
        self._since = now

    def _fill(self) -> None:
        """Lets waiting requests join while there is room, and announces the next end of a row."""
        while self._waiting and len(self._rows) < self.machine.rows:
            request = self._waiting.popleft()
            self.spent.prefilled += request.prefill
            self.spent.requests += 1
            reading = self.machine.request_seconds + request.prefill * self.machine.prefill_seconds
            self._reading_until = max(self._reading_until, self.events.now) + reading
            heapq.heappush(self._rows, (self.progress + request.tokens, next(self._order), request, self.progress))
        self._version += 1
        if self._rows:
            version, left = self._version, max(0.0, self._rows[0][0] - self.progress)
            time = max(self._since, self._reading_until) + left * self._round
            self.events.at(time, lambda: self._end(version))

    def _end(self, version: int) -> None:
        """Ends the rows that are complete, unless others have joined or left since this was announced."""
        if version != self._version:
            return
        self._advance()
        self.progress = max(self.progress, self._rows[0][0])  # it was announced for this progress, but for rounding
        done = []
        while self._rows and self._rows[0][0] <= self.progress + _ROUNDING:
            done.append(heapq.heappop(self._rows)[2])
        self._fill()
        for request in done:
            request.done()
