"""Which calls a server on loopback answers; test_openenv.py has a real server and its clients."""

import asyncio
from typing import Any

import pytest

from arpo_envs.errors import ConfigError
from arpo_envs.hubs.same_origin import SameOrigin, require_hosts

SERVED = {"type": "served"}


def answer(
    headers: list[tuple[str, str]], hosts: tuple[str, ...] = (), kind: str = "http", **scope: Any
) -> list[dict[str, Any]]:
    """Returns what is sent to a client with these headers."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("a call that is refused is not read")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(SERVED)

    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    asyncio.run(SameOrigin(app, hosts)({"type": kind, "headers": encoded, **scope}, receive, send))
    return sent


@pytest.mark.parametrize(
    ("host", "origin", "hosts", "served"),
    [
        ("localhost:8000", None, (), True),
        ("127.0.0.1", None, (), True),
        ("[::1]:8000", "http://[::1]:8000", (), True),
        ("LocalHost:8000", "http://localhost:8000", (), True),
        ("localhost:8000", "http://localhost:3000", (), False),
        ("localhost:8000", "http://localhost:3000", ("localhost",), True),
        ("localhost:8000", "http://127.0.0.1:8000", (), False),
        ("localhost:8000", "null", (), False),
        ("localhost:8000", "", (), False),
        ("localhost:8000", "http://[", (), False),
        ("localhost:8000", "http://localhost:8000.evil.example", (), False),
        ("evil.example:8000", "http://evil.example:8000", (), False),
        ("localhost.evil.example", None, (), False),
        ("10.0.0.5:8000", None, (), False),
        ("10.0.0.5:8000", None, ("10.0.0.5",), True),
        ("envs.example", "https://envs.example", ("Envs.Example",), True),
        ("[", None, (), False),
        ("", None, (), False),
    ],
)
def test_what_is_answered(host: str, origin: str | None, hosts: tuple[str, ...], served: bool) -> None:
    headers = [("host", host), *([("origin", origin)] if origin is not None else [])]
    assert (answer(headers, hosts) == [SERVED]) is served


def test_one_host_is_said_once() -> None:
    ours, foreign = ("host", "localhost"), ("host", "evil.example")
    for headers in ([], [ours, foreign], [ours, ("origin", "http://localhost"), ("origin", "http://evil.example")]):
        assert answer(headers)[0]["status"] == 403


@pytest.mark.parametrize("hosts", ["localhost", [""], ["envs.example", "envs.example:80"], ["http://envs.example"], ["[::1]"]])
def test_a_name_that_no_call_could_have_is_refused(hosts: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"hosts are (names or addresses alone|several)"):
        require_hosts(hosts)


def test_a_refusal_says_what_to_do_where_the_protocol_has_a_place_for_it() -> None:
    foreign = [("host", "localhost"), ("origin", "http://evil.example")]
    for kind, extensions, prefix in (("http", {}, ""), ("websocket", {"websocket.http.response": {}}, "websocket.")):
        start, body = answer(foreign, kind=kind, extensions=extensions)
        assert (start["type"], start["status"]) == (f"{prefix}http.response.start", 403)
        assert body["type"] == f"{prefix}http.response.body"
        assert b"'http://evil.example' may not call this server: name their host in make_app(hosts=...)" in body["body"]
    assert answer(foreign, kind="websocket") == [{"type": "websocket.close"}]


def test_what_is_no_call_is_passed_on() -> None:
    assert answer([], kind="lifespan") == [SERVED]
