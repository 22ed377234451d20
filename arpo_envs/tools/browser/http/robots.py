"""What sites ask of robots (RFC 9309): asked for once, remembered for a while, and obeyed."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from ....rewards.worker import Overrun, Raised, shared_worker
from .errors import TooLate, Unavailable
from .urls import port_of
from .visits import Answer, Visit

MOST_BYTES = 500 * 1024
"""Of a robots.txt that are read, the least that the standard allows."""
_REDIRECTS = 5
_KEPT = 256
_SECONDS, _SECONDS_UNREACHABLE = 86400.0, 60.0
_PROCESSOR_SECONDS = 1.0


@dataclass(frozen=True)
class Rules:
    """What one site asks.

    Args:
        text: its robots.txt, empty where there is none.
        until: when it is asked for again.
        failure: why it could not be asked for, which forbids everything; empty if it could.
    """

    text: str
    until: float
    failure: str = ""


class Robots:
    """The rules of the sites visited last; safe to share between threads.

    Args:
        agent: the name that rules call this robot by.
        clock: returns the time in seconds.
    """

    def __init__(self, agent: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._agent, self._clock = agent, clock
        self._rules: OrderedDict[tuple[str, str, int], Rules] = OrderedDict()
        self._lock = threading.Lock()

    def require_allowed(self, url: httpx.URL, visit: Visit) -> float:
        """Returns the seconds that a site wants between two requests.

        Args:
            url: that is to be asked for.
            visit: asks for its robots.txt, if that is not known.

        Raises:
            Unavailable: the site wants no robots there, or could not be asked.
            TooLate: the deadline has passed.
            ToolFault: this machine fails.
        """
        rules = self._of(url, visit)
        if rules.failure:
            raise Unavailable(f"the site's robots.txt cannot be reached, which forbids everything to robots: {rules.failure}")
        if not rules.text.strip():
            return 0.0
        reader = shared_worker(f"{__package__}.rules:verdict")
        try:
            found = reader.call((rules.text, str(url), self._agent), seconds=_PROCESSOR_SECONDS, wall=visit.bounds.left())
        except (Overrun, Raised):
            visit.bounds.left()
            raise Unavailable("the site's robots.txt cannot be read, which forbids everything to robots") from None
        if not found["allowed"]:
            raise Unavailable("the site's robots.txt forbids it")
        return float(found["delay"])

    def _of(self, url: httpx.URL, visit: Visit) -> Rules:
        site = (url.scheme, url.host, port_of(url))
        with self._lock:
            known = self._rules.get(site)
            if known is not None and self._clock() < known.until:
                self._rules.move_to_end(site)
                return known
        rules = self._asked(url, visit)
        with self._lock:
            self._rules[site] = rules
            self._rules.move_to_end(site)
            while len(self._rules) > _KEPT:
                self._rules.popitem(last=False)
        return rules

    def _asked(self, url: httpx.URL, visit: Visit) -> Rules:
        now = self._clock()
        try:
            answer = _found(url, visit)
        except TooLate:
            raise
        except Unavailable as failure:
            return Rules("", now + _SECONDS_UNREACHABLE, str(failure))
        if answer.status >= 500:
            return Rules("", now + _SECONDS_UNREACHABLE, f"the server answered with status {answer.status}")
        return Rules(answer.body.decode("utf-8", "replace"), now + _SECONDS)


def _found(url: httpx.URL, visit: Visit) -> Answer:
    """Returns a site's robots.txt, or the last of too many redirects, which counts as none."""
    target = visit.destination("/robots.txt", url)
    answer = visit.get(target, most=MOST_BYTES, cut=True)
    for _ in range(_REDIRECTS):
        if not answer.redirects:
            break
        target = visit.destination(answer.location, target)
        answer = visit.get(target, most=MOST_BYTES, cut=True)
    return answer
