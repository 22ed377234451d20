"""Which URLs may be asked for at all."""

import re

import httpx

from .errors import Unavailable

_LONGEST = 8192
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?", re.ASCII | re.IGNORECASE)
_STANDARD_PORTS = {"http": 80, "https": 443}


def destination(url: str, ports: frozenset[int] | None, base: httpx.URL | None = None) -> httpx.URL:
    """Returns a URL, without its fragment, if it may be asked for.

    Args:
        url: what a page or a model wrote.
        ports: that may be connected to; None for all.
        base: what it is relative to.

    Raises:
        Unavailable: it may not, with the reason.

    >>> str(destination("/b?c#d", frozenset({443}), httpx.URL("https://a.example/x")))
    'https://a.example/b?c'
    """
    try:
        found = (base.join(url) if base is not None else httpx.URL(url)).copy_with(fragment=None)
        host = found.raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError, TypeError):
        raise Unavailable("it is not a URL") from None
    if found.scheme not in _STANDARD_PORTS:
        raise Unavailable("only http:// and https:// can be opened")
    if len(str(found)) > _LONGEST:
        raise Unavailable(f"it is too long (more than {_LONGEST} characters)")
    if found.userinfo:
        raise Unavailable("a URL with a user name or password is not opened")
    if ":" not in host and not _NAME.fullmatch(host):
        raise Unavailable("it is not a URL")
    if ports is not None and port_of(found) not in ports:
        raise Unavailable(f"only these ports can be opened: {', '.join(map(str, sorted(ports)))}")
    return found


def port_of(url: httpx.URL) -> int:
    """Returns the port that a URL means."""
    return _STANDARD_PORTS[url.scheme] if url.port is None else url.port
