"""Keeps web pages from a server on loopback that runs code for whoever reaches it.

A browser lets any page open a WebSocket to any server, and says in `Origin` whose page it is. A page whose own name was made to
point to the server's address has the same origin, but another `Host`.
"""

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HEADERS = (b"host", b"origin")


class SameOrigin:
    """ASGI middleware that refuses calls under a foreign `Host`, and those of a foreign page.

    Args:
        app: the server.
        hosts: names besides `LOOPBACK` under which it may be called, and whose pages may call it whatever their port is;
            without ports.
    """

    def __init__(self, app: App, hosts: Collection[str] = ()) -> None:
        self._app, self._named = app, frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serves a call, or refuses it with status 403."""
        refusal = self._refusal(scope["headers"]) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket" and "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close"})  # before it was accepted, which is status 403 without a word
        else:
            kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": f"{kind}.start", "status": 403, "headers": headers})
            await send({"type": f"{kind}.body", "body": refusal.encode()})

    def _refusal(self, headers: Collection[tuple[bytes, bytes]]) -> str | None:
        """Returns why a call with these headers is refused; None if it is not."""
        hosts, origins = ([value.decode("latin-1").lower() for key, value in headers if key == name] for name in _HEADERS)
        host = hosts[0] if len(hosts) == 1 else ""
        if _split(f"//{host}")[1] not in self._named | LOOPBACK:
            return f"This server is not called {host[:100]!r}: name that in make_app(hosts=...), or call it as localhost."
        for origin in origins:
            place, name = _split(origin)
            if place != host and name not in self._named:
                return f"Pages of {origin[:100]!r} may not call this server: name their host in make_app(hosts=...)."
        return None


def require_hosts(hosts: Collection[str]) -> Collection[str]:
    """Returns `hosts` if each is a bare name or address, with which calls are compared.

    Raises:
        ConfigError: it is one string, or a name is empty or has a scheme, a port or brackets.

    >>> require_hosts(["https://envs.example"])
    Traceback (most recent call last):
    arpo_envs.errors.ConfigError: hosts are names or addresses alone, as ["envs.example"], not 'https://envs.example'.
    """
    if isinstance(hosts, str):
        raise ConfigError(f"hosts are several: write [{hosts!r}].")
    for host in hosts:
        if not host or set(host) & set("/[]") or host.count(":") == 1:
            raise ConfigError(f'hosts are names or addresses alone, as ["envs.example"], not {host!r}.')
    return hosts


def _split(url: str) -> tuple[str, str | None]:
    """Returns the host of a URL with and without its port; of what is none, such as the origin "null", "" and None."""
    try:
        parts = urlsplit(url)
    except ValueError:  # such as a bracket that is not closed
        return "", None
    return parts.netloc, parts.hostname
