"""Which replica of a server a request goes to: the one that knows its prompt, if it is up and has room."""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from arpo_envs import wait_before_retry

from ..seeds import derive

_PROMPTS = 1 << 14
"""Prompts that are remembered."""
_FIRST_REST, _LONGEST_REST = 0.5, 15.0
"""Seconds a replica is left alone after a failure: doubled with each consecutive one."""


class Prompts:
    """Recognises the prompt a context begins with.

    A path's first context is its prompt, and all later ones, including those of forks, begin with it. The first few
    tokens alone would not be enough: all prompts of an environment begin with the same instructions.

    Args:
        limit: how many prompts are remembered.
    """

    def __init__(self, limit: int = _PROMPTS) -> None:
        self._limit = limit
        self._known: OrderedDict[int, None] = OrderedDict()

    def prompt_of(self, context: Sequence[int]) -> int:
        """Returns a number that identifies the prompt of `context`; a context that begins with no known prompt is a new one."""
        state = 0
        for token in context:
            state = hash((state, token))
            if state in self._known:
                self._known.move_to_end(state)
                return state
        self._known[state] = None
        if len(self._known) > self._limit:
            self._known.popitem(last=False)
        return state


@dataclass
class Replica:
    """One server.

    Args:
        url: its address.
        slots: requests it may have at once.
        suspect: whether it failed since it was last healthy; then it is examined before it is used again.
        failures: consecutive ones.
        resting_until: event-loop time before which it is left alone.
        heard: event-loop time of its last answer.
        examination: held while it is being examined.
    """

    url: str
    slots: asyncio.Semaphore
    suspect: bool = False
    failures: int = 0
    resting_until: float = 0.0
    heard: float = -math.inf
    examination: asyncio.Lock = field(default_factory=asyncio.Lock)

    def fail(self, now: float) -> None:
        """Records that it cannot be reached and needs an examination; requests that fail together count as one failure."""
        if self.suspect and now < self.resting_until:
            return
        self.resting_until = now + wait_before_retry(self.failures, first=_FIRST_REST, longest=_LONGEST_REST)
        self.failures += 1
        self.suspect = True

    def rest(self, until: float) -> None:
        """Leaves it alone for a while, as it asked."""
        self.resting_until = max(self.resting_until, until)

    def recover(self) -> None:
        """Records that it is healthy."""
        self.suspect, self.failures, self.resting_until = False, 0, 0.0


class Replicas:
    """The replicas of one server.

    Args:
        urls: of the replicas.
        concurrency: requests each of them may have at once.
    """

    def __init__(self, urls: Sequence[str], concurrency: int) -> None:
        self.all = [Replica(url, asyncio.Semaphore(concurrency)) for url in urls]
        self._prompts = Prompts()

    def order(self, context: Sequence[int]) -> list[Replica]:
        """Returns all replicas, the home of the context's prompt first.

        By rendezvous hashing: when a replica goes down, only its own prompts move.

        Source: D. Thaler and C. V. Ravishankar (1998), IEEE/ACM Transactions on Networking 6, p. 1.
        """
        prompt = self._prompts.prompt_of(context)
        return sorted(self.all, key=lambda replica: derive(prompt, replica.url), reverse=True)


def choose(order: Sequence[Replica], now: float) -> Replica | None:
    """Returns the first healthy replica that has room, else the first healthy one; None if none is."""
    well = [replica for replica in order if not replica.suspect and replica.resting_until <= now]
    free = [replica for replica in well if not replica.slots.locked()]
    return next(iter(free or well), None)
