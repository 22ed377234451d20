"""Asks a server for JSON, within a time and a size."""

import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ...errors import ConfigError, ToolFault, ToolLost
from ...retries import wait_before_retry

_MOST_BYTES = 8 << 20
"""Bytes of an answer, decompressed: a page of results is a thousandth of this."""
_PASSING = (429, 502, 503, 504)
"""Statuses that may be different a moment later."""
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 4.0
_LOOK = 1.0
"""Seconds, at most, of a look at whether a server is alive; also at most a fifth of the time that it has for an answer."""


class TooSlow(Exception):
    """The time is up, and the answer is still to come from a server that is alive."""


class _Look:
    """Looks once, a while from now and in another thread, whether a server is alive.

    Args:
        is_alive: looks.
        after: seconds from now.
    """

    def __init__(self, is_alive: Callable[[], bool], after: float) -> None:
        self.saw_it = False
        self._is_alive = is_alive
        self._timer = threading.Timer(after, self._look)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """Does not look any more, if it has not done so yet."""
        self._timer.cancel()

    def _look(self) -> None:
        self.saw_it = self._is_alive()


class JsonService:
    """One server; its connections are kept, and may be used from several threads.

    What it raises never contains the request, which may contain a key.

    Args:
        url: where the requests go.

    Raises:
        ConfigError: httpx is not installed, or the URL is not one.
    """

    def __init__(self, url: str) -> None:
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise ConfigError("A search engine behind a URL needs httpx: pip install 'arpo-envs[server]'") from error
        self._httpx = httpx
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            parsed = httpx.URL()
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ConfigError(f"{url!r} is not a URL. Give http://HOST:PORT/PATH.")
        if parsed.userinfo:
            raise ConfigError("A URL with a password in it ends up in logs. Give the address alone.")
        self.url = url
        self._clients: dict[int, Any] = {}

    def ask(
        self,
        method: str,
        *,
        timeout: float,
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Any:
        """Returns the JSON that the server answers; passing failures are tried again until the time is up.

        A server that does not answer in time is slow if it is alive: if it answers something else both at half time and when
        the time is up. Otherwise it was away, and what it was asked may have been lost.

        Args:
            method: "GET" or "POST".
            timeout: seconds for everything.
            url: instead of the service's own.
            headers: of the request.
            query: added to the URL.
            body: sent as JSON; None sends nothing.

        Raises:
            TooSlow: the time is up, and the server is alive.
            ToolLost: the server cannot be reached, is overloaded, or was away while it should have answered.
            ToolFault: it refuses, or does not answer with JSON.
        """
        deadline, tries = time.monotonic() + timeout, 0
        while True:
            left = max(0.0, deadline - time.monotonic())
            look_for = min(_LOOK, left / 5)
            look = _Look(partial(self._is_alive, look_for), left / 2)
            request = {"url": url or self.url, "headers": headers, "params": query, "json": body}
            try:
                status, content = self._once(method, deadline - look_for, **request)
                failure = f"answered with status {status}"
            except (self._httpx.TimeoutException, TooSlow) as late:
                is_alive = isinstance(late, TooSlow) or (look.saw_it and self._is_alive(look_for))
                if is_alive and not tries:
                    raise TooSlow from None
                raise ToolLost(
                    f"The search engine at {self._named} did not answer in {timeout:g} s, and was away in that time."
                ) from None
            except self._httpx.HTTPError as error:
                status, content, failure = 0, b"", f"cannot be reached ({type(error).__name__})"
            finally:
                look.cancel()
            if status == 200:
                return self._read(content)
            wait = wait_before_retry(tries, first=_FIRST_WAIT, longest=_LONGEST_WAIT)
            if status not in (0, *_PASSING) or time.monotonic() + wait >= deadline:
                advice = ". Check its key." if status in (401, 403) else "."
                kind = ToolLost if status in (0, *_PASSING) else ToolFault
                raise kind(f"The search engine at {self._named} {failure}{advice}")
            time.sleep(wait)
            tries += 1

    def _is_alive(self, within: float) -> bool:
        """Whether the server answers anything at all, in about so many seconds."""
        try:
            return self._connected().head(self._named, timeout=within).status_code not in _PASSING
        except self._httpx.HTTPError:
            return False

    @property
    def _named(self) -> str:
        """The server, without what a URL may say besides."""
        url = self._httpx.URL(self.url)
        return f"{url.scheme}://{url.netloc.decode()}"

    def _once(self, method: str, deadline: float, **request: Any) -> tuple[int, bytes]:
        """Returns the status of one answer, and its body if it is a good one."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._httpx.PoolTimeout("no time is left")
        with self._connected().stream(method, timeout=left, **request) as answer:
            if answer.status_code != 200:
                return answer.status_code, b""
            content = bytearray()
            for piece in answer.iter_bytes():
                content += piece
                if len(content) > _MOST_BYTES:
                    raise ToolFault(f"The search engine at {self._named} answered with more than {_MOST_BYTES >> 20} MB.")
                if time.monotonic() > deadline:
                    raise TooSlow
            return 200, bytes(content)

    def _read(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise ToolFault(f"The search engine at {self._named} did not answer with JSON. Check the URL.") from None

    def _connected(self) -> Any:
        """Returns the client of this process, which is made when it is first needed: it costs milliseconds.

        A forked child must not use its parent's connections: each of the two would read answers to the other.
        """
        process = os.getpid()
        if process not in self._clients:
            local = self._httpx.URL(self.url).host in ("localhost", "127.0.0.1", "::1")
            unlimited = self._httpx.Limits()  # one call must not wait for another's connection and seem unanswered
            made = self._httpx.Client(trust_env=not local, follow_redirects=False, limits=unlimited)
            weakref.finalize(self, made.close)
            self._clients.setdefault(process, made)  # another thread may have been faster
        return self._clients[process]
