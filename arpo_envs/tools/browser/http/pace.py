"""How soon after one another a site is asked."""

import threading
import time
from collections import OrderedDict

from .connections import Bounds
from .errors import Unavailable

_KEPT = 1024


class Pace:
    """Keeps requests to a host apart, those of all threads of this process together."""

    def __init__(self) -> None:
        self._next: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, host: str, seconds: float, bounds: Bounds) -> None:
        """Waits until it is this request's turn.

        Args:
            host: that is to be asked.
            seconds: between the beginnings of two requests.
            bounds: say until when.

        Raises:
            Unavailable: its turn comes too late.
            TooLate: the time is up.
        """
        bounds.left()
        now = time.monotonic()
        with self._lock:
            turn = max(now, self._next.get(host, now))
            if turn > now and turn >= bounds.deadline:
                raise Unavailable("the site wants more time between two visits; open another one")
            if seconds > 0:
                self._next[host] = turn + seconds
                self._next.move_to_end(host)
                while len(self._next) > _KEPT:
                    self._next.popitem(last=False)
        time.sleep(turn - now)
