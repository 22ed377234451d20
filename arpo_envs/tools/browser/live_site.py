"""The live web as a source of pages: HTTP that reaches public servers only, and costs no more than it may."""

import hashlib
import html
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError
from ...retries import wait_before_retry
from .conversion import MAX_HTML
from .sources import Document, Hit, PageError

if TYPE_CHECKING:
    import httpx

    from .http import Answer, Lookups, Pace, Robots, Visit

_KINDS = ("", "text/html", "application/xhtml+xml", "text/plain")
"""Content types that are read; none at all is taken for HTML."""
_ROOM = 1 << 20
"""Bytes that one connection may receive besides twice a page: headers, and what chunks cost."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 4.0


@dataclass(frozen=True)
class LiveSite:
    """The web, one request after the other; it searches nothing, see `SearchedBy`.

    Only addresses of the public internet are connected to, whatever a name resolves to and wherever a redirect leads. No
    cookies are kept, no proxies or credentials are taken from the environment, and a URL with a password is not opened.

    Args:
        allow: networks that may be reached though they are not public, such as "10.1.0.0/16".
        ports: that may be connected to; None for all.
        robots: obey each site's robots.txt, and its Crawl-delay.
        user_agent: the header; robots.txt knows this robot by its first word.
        redirects: that are followed for one page.
        tries: how often a page is asked for whose server breaks off or is busy, if the time allows.
        delay: seconds between two requests to one host, of this process.
        max_bytes: of a page, decompressed; more is not read.
        certificates: a file of certificate authorities to trust, instead of the usual ones.
        resolver: returns the addresses of a name; by default this machine's.

    Raises:
        ConfigError: an argument is out of range, or httpx or protego is not installed.
    """

    allow: Sequence[str] = ()
    ports: Sequence[int] | None = (80, 443)
    robots: bool = True
    user_agent: str = "arpo-envs"
    redirects: int = 10
    tries: int = 2
    delay: float = 0.0
    max_bytes: int = MAX_HTML
    certificates: str | Path | None = None
    resolver: Callable[[str], Sequence[str]] | None = None

    searches = False
    trusted = False

    def __post_init__(self) -> None:
        """Checks the arguments."""
        for module in ("httpx", "protego"):
            if find_spec(module) is None:
                raise ConfigError(f"Pages of the live web need {module}: pip install 'arpo-envs[browse]'")
        from .http import networks

        object.__setattr__(self, "allow", tuple(self.allow))
        object.__setattr__(self, "ports", None if self.ports is None else tuple(self.ports))
        networks(self.allow)
        if self.tries < 1 or self.max_bytes < 1 or min(self.redirects, self.delay) < 0:
            raise ConfigError(
                "tries and max_bytes must be at least 1, redirects and delay at least 0; got "
                f"{self.tries}, {self.max_bytes}, {self.redirects} and {self.delay:g}."
            )
        if not self.user_agent.isascii() or not self.user_agent.isprintable() or not self.user_agent.strip():
            raise ConfigError(f"user_agent must be printable ASCII, got {self.user_agent!r}.")
        if self.certificates is not None and not Path(self.certificates).is_file():
            raise ConfigError(f"There is no file {self.certificates} with certificates.")

    @property
    def name(self) -> str:
        """What distinguishes it from other sources: every argument that changes what is found."""
        told = [
            (each.name, getattr(self, each.name)) for each in fields(self) if each.name not in ("tries", "delay", "resolver")
        ]
        return f"live web ({hashlib.blake2b(repr(told).encode(), digest_size=6).hexdigest()})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by its arguments, without what it remembers of sites."""
        return type(self), tuple(getattr(self, each.name) for each in fields(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> "LiveSite":
        """Returns itself: nothing in it ever changes but what it remembers of sites."""
        return self

    def search(self, query: str, count: int, *, timeout: float) -> Sequence[Hit] | PageError:
        """Finds nothing."""
        return PageError("the web cannot be searched here")

    def fetch(self, url: str, *, timeout: float) -> Document | PageError:
        """Returns what is at a URL, after redirects.

        Raises:
            ToolFault: this machine fails: it has no network, no name server, or no room for a connection.
        """
        from .http import Bounds, TooLate, Unavailable, Visit, networks

        bounds = Bounds(networks(self.allow), self._lookups, time.monotonic() + timeout, 2 * self.max_bytes + _ROOM)
        try:
            with Visit(bounds, self._context, self.user_agent, None if self.ports is None else frozenset(self.ports)) as visit:
                return _document(self._answer(visit, url))
        except TooLate:
            return PageError(f"it took longer than {timeout:g} s")
        except Unavailable as error:
            return PageError(str(error))

    # --- one page ---------------------------------------------------------------------------------------------

    def _answer(self, visit: "Visit", url: str) -> "Answer":
        """Returns the page that a URL leads to; every step is checked like the first."""
        from .http import Unavailable

        target = visit.destination(url)
        for _ in range(self.redirects + 1):
            answer = self._asked(visit, target)
            if not answer.redirects:
                return answer
            target = visit.destination(answer.location, target)
        raise Unavailable(f"it redirects too often (more than {self.redirects} times)")

    def _asked(self, visit: "Visit", target: "httpx.URL") -> "Answer":
        from .http import Passing, wait

        wanted = self._robots.require_allowed(target, visit) if self.robots else 0.0
        for retry in range(self.tries):
            self._pace.wait(target.host, max(wanted, self.delay), visit.bounds)
            try:
                return visit.get(target, most=self.max_bytes, require=_require_page)
            except Passing as failure:
                pause = max(wait_before_retry(retry, first=_FIRST_WAIT, longest=_LONGEST_WAIT), failure.wait)
                if retry + 1 == self.tries or not wait(pause, visit.bounds):
                    raise
        raise AssertionError("the last try returns or raises")

    # --- what all pages share; nothing of it is needed before the first one --------------------------------------

    @cached_property
    def _context(self) -> ssl.SSLContext:
        import httpx

        if self.certificates is not None:
            return ssl.create_default_context(cafile=str(self.certificates))
        return httpx.create_ssl_context(trust_env=False)

    @cached_property
    def _lookups(self) -> "Lookups":
        from .http import Lookups, system_resolver

        return Lookups(self.resolver or system_resolver)

    @cached_property
    def _robots(self) -> "Robots":
        from .http import Robots

        return Robots(self.user_agent.split()[0].partition("/")[0])

    @cached_property
    def _pace(self) -> "Pace":
        from .http import Pace

        return Pace()


def _require_page(answer: "Answer") -> None:
    from .http import Unavailable

    if answer.kind not in _KINDS:
        raise Unavailable(f"it is not a page but {answer.kind[:80]}")


def _document(answer: "Answer") -> Document | PageError:
    from .charsets import decoded

    if answer.status != 200:
        return PageError(f"the server answered with status {answer.status}")
    text = decoded(answer.body, answer.charset)
    if answer.kind == "text/plain":
        return Document(str(answer.url), f"<pre>\n{html.escape(text, quote=False)}</pre>")
    return Document(str(answer.url), text)
