"""Asks a server for JSON, within a time and a size."""

import json
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any

from ...errors import ConfigError, ToolFault
from ...retries import wait_before_retry

_MOST_BYTES = 8 << 20
"""Bytes of an answer, decompressed: a page of results is a thousandth of this."""
_PASSING = (429, 502, 503, 504)
"""Statuses that may be different a moment later."""
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 4.0


class TooSlow(Exception):
    """There was no answer in time."""


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
        self._lock = threading.Lock()
        self._client: Any = None

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

        Args:
            method: "GET" or "POST".
            timeout: seconds for everything.
            url: instead of the service's own.
            headers: of the request.
            query: added to the URL.
            body: sent as JSON; None sends nothing.

        Raises:
            TooSlow: the time is up.
            ToolFault: the server is gone, refuses, or does not answer with JSON.
        """
        deadline, tries = time.monotonic() + timeout, 0
        while True:
            try:
                status, content = self._once(method, deadline, url=url or self.url, headers=headers, params=query, json=body)
                failure = f"answered with status {status}"
            except self._httpx.TimeoutException:
                raise TooSlow from None
            except self._httpx.HTTPError as error:
                status, content, failure = 0, b"", f"cannot be reached ({type(error).__name__})"
            if status == 200:
                return self._read(content)
            wait = wait_before_retry(tries, first=_FIRST_WAIT, longest=_LONGEST_WAIT)
            if status not in (0, *_PASSING) or time.monotonic() + wait >= deadline:
                advice = ". Check its key." if status in (401, 403) else "."
                raise ToolFault(f"The search engine at {self._named} {failure}{advice}")
            time.sleep(wait)
            tries += 1

    @property
    def _named(self) -> str:
        """The server, without what a URL may say besides."""
        url = self._httpx.URL(self.url)
        return f"{url.scheme}://{url.netloc.decode()}"

    def _once(self, method: str, deadline: float, **request: Any) -> tuple[int, bytes]:
        """Returns the status of one answer, and its body if it is a good one."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._httpx.ReadTimeout("no time is left")
        with self._connected().stream(method, timeout=left, **request) as answer:
            if answer.status_code != 200:
                return answer.status_code, b""
            content = bytearray()
            for piece in answer.iter_bytes():
                content += piece
                if len(content) > _MOST_BYTES:
                    raise ToolFault(f"The search engine at {self._named} answered with more than {_MOST_BYTES >> 20} MB.")
                if time.monotonic() > deadline:
                    raise self._httpx.ReadTimeout("it answers too slowly")
            return 200, bytes(content)

    def _read(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise ToolFault(f"The search engine at {self._named} did not answer with JSON. Check the URL.") from None

    def _connected(self) -> Any:
        """Returns the client, which is made when it is first needed: it costs milliseconds."""
        with self._lock:
            if self._client is None:
                local = self._httpx.URL(self.url).host in ("localhost", "127.0.0.1", "::1")
                self._client = self._httpx.Client(trust_env=not local, follow_redirects=False)
                weakref.finalize(self, self._client.close)
            return self._client
