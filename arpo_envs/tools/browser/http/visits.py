"""One page's visit to the web: requests that share a deadline, keep nothing, and tell in words what went wrong."""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpcore
import httpx

from .bodies import ACCEPTED, decompressed
from .connections import Bounds, CheckedTransport
from .errors import Passing, Unavailable
from .urls import destination

_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (429, 502, 503, 504)
"""Statuses that may be different a moment later."""
_LONGEST_WAIT_ASKED = 86400.0


@dataclass(frozen=True)
class Answer:
    """What a server said.

    Args:
        url: that was asked for.
        status: 200, or another one, whose body was not read.
        kind: its content type in lower case, without parameters; empty if it named none.
        charset: that it named, or empty.
        location: where it redirects to, or empty.
        body: decompressed; empty unless the status is 200.
    """

    url: httpx.URL
    status: int
    kind: str = ""
    charset: str = ""
    location: str = ""
    body: bytes = b""

    @property
    def redirects(self) -> bool:
        """Whether it says where to look instead."""
        return self.status in _REDIRECTS and bool(self.location)


class Visit:
    """Asks servers, within one deadline.

    Args:
        bounds: what its connections may do.
        context: how certificates are checked.
        user_agent: the header.
        ports: that may be connected to; None for all.
    """

    def __init__(self, bounds: Bounds, context: ssl.SSLContext, user_agent: str, ports: frozenset[int] | None) -> None:
        self.bounds, self.ports = bounds, ports
        self._client = httpx.Client(
            transport=CheckedTransport(bounds, context),
            headers={
                "User-Agent": user_agent,
                "Accept": "text/html, application/xhtml+xml, text/plain;q=0.9, */*;q=0.1",
                "Accept-Encoding": ACCEPTED,
                "Connection": "close",
            },
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
            trust_env=False,
        )

    def __enter__(self) -> "Visit":
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends all connections."""
        self._client.close()

    def destination(self, url: str, base: httpx.URL | None = None) -> httpx.URL:
        """Returns a URL that may be asked for; see `urls.destination`."""
        return destination(url, self.ports, base)

    def get(self, url: httpx.URL, *, most: int, cut: bool = False, require: Callable[[Answer], None] | None = None) -> Answer:
        """Returns what one server says to one request.

        Args:
            url: one that `destination` returned.
            most: bytes of a body, decompressed.
            cut: return the beginning of a longer body, instead of raising.
            require: raises `Unavailable` for an answer whose body is not worth reading.

        Raises:
            Unavailable: there is no answer, or none that is read.
            Passing: there may be one a moment later.
            TooLate: the deadline has passed.
            ToolFault: this machine fails.
        """
        self.bounds.left()
        try:
            with self._client.stream("GET", url) as response:
                return self._read(url, response, most, cut, require)
        except httpx.RemoteProtocolError:  # the client reads the header Location, though it follows none
            raise Unavailable("it is not a URL") from None
        except httpcore.TimeoutException:
            self.bounds.left()
            raise Unavailable("the server does not answer") from None
        except (httpcore.NetworkError, httpcore.ProtocolError):
            raise Passing("the server broke off") from None

    def _read(
        self, url: httpx.URL, response: httpx.Response, most: int, cut: bool, require: Callable[[Answer], None] | None
    ) -> Answer:
        headers, status = response.headers, response.status_code
        if status in _PASSING:
            raise Passing(f"the server answered with status {status}", _seconds(headers.get("Retry-After", "")))
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        answer = Answer(url, status, kind, response.charset_encoding or "", headers.get("Location", ""))
        if status != 200:
            return answer
        if require is not None:
            require(answer)
        body = decompressed(response.iter_raw(), headers.get("Content-Encoding", ""), most=most, cut=cut)
        return Answer(url, status, kind, answer.charset, "", body)


def wait(seconds: float, bounds: Bounds) -> bool:
    """Waits, and returns whether there was time for it."""
    if seconds >= bounds.left():
        return False
    time.sleep(seconds)
    return True


def _seconds(asked: str) -> float:
    return min(float(asked), _LONGEST_WAIT_ASKED) if asked.isascii() and asked.isdigit() else 0.0
