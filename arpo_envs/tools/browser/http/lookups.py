"""Names to addresses, within a time: a system's resolver cannot be interrupted, so it is asked in a thread that may be left."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from ....errors import ToolFault
from .addresses import Address, literal
from .errors import TooLate, Unavailable

Resolver = Callable[[str], Sequence[str]]
"""Returns the addresses of a name; raises `socket.gaierror` where there are none."""
MOST_AT_ONCE = 64


def system_resolver(name: str) -> list[str]:
    """Returns the addresses that this machine knows for a name, the best first."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Lookups:
    """Looks names up; safe to share between threads.

    Args:
        resolver: what is asked.
        at_once: lookups that may be under way, those included that nobody waits for any more.
    """

    def __init__(self, resolver: Resolver = system_resolver, at_once: int = MOST_AT_ONCE) -> None:
        self._resolver = resolver
        self._free = threading.BoundedSemaphore(at_once)
        self._answered = False

    def addresses(self, host: str, *, deadline: float) -> list[Address]:
        """Returns the addresses of a host, at least one.

        Args:
            host: a name, or an address in any form.
            deadline: when to give up, as a reading of `time.monotonic()`.

        Raises:
            Unavailable: there is no such host.
            TooLate: no answer came in time.
            ToolFault: no name server answers, or too many lookups hang.
        """
        try:
            if (own := literal(host)) is not None:
                return [own]
            found = self._asked(host, deadline)
            addresses = [ip_address(each) for each in found]
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN and not self._answered:
                raise ToolFault("No name server answers, and none has so far. Check that this machine is online.") from error
            self._answered = True
            raise Unavailable("there is no such host") from None
        except (ValueError, UnicodeError):
            raise Unavailable("there is no such host") from None
        self._answered = True
        if not addresses:
            raise Unavailable("there is no such host")
        return addresses

    def _asked(self, host: str, deadline: float) -> Sequence[str]:
        if not self._free.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
            raise ToolFault("Too many names are being looked up. Check this machine's name server.")
        answers: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()
        threading.Thread(target=self._ask, args=(host, answers), daemon=True, name="arpo-lookup").start()
        try:
            answer = answers.get(timeout=max(deadline - time.monotonic(), 0.001))
        except queue.Empty:
            raise TooLate from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ask(self, host: str, answers: "queue.SimpleQueue[Sequence[str] | Exception]") -> None:
        try:
            answers.put(self._resolver(host))
        except Exception as error:  # noqa: BLE001  # it is raised where somebody waits for it
            answers.put(error)
        finally:
            self._free.release()
