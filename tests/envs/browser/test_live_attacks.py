"""What servers may try against a live site: to be taken to private addresses, to send without end, never to finish."""

import gzip
import socket
import ssl
import threading
import tracemalloc
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from web_servers import Said, Server, redirects, says, served_page, serving, shown, site, told

NOT_PUBLIC, NO_URL = "its address is not a public one", "it is not a URL"
SPECIAL = (
    *("127.0.0.1", "10.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[::1]", "2130706433", "0x7f.1"),
    *("0177.0.0.1", "127.1", "0.0.0.0", "[fd00:ec2::254]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "224.0.0.1"),
)
MEGABYTE = 1 << 20


@contextmanager
def two_servers(one: Mapping[str, Said], two: Mapping[str, Said]) -> Iterator[tuple[Server, Server]]:
    """Serves on one port of 127.0.0.2, and on the same of 127.0.0.1."""
    with serving(one, host="127.0.0.2") as first, serving(two, port=first.port) as second:
        yield first, second


# --- where it is taken --------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", SPECIAL)
def test_no_address_of_a_private_network_is_reached(address: str) -> None:
    with serving({"/": says()}) as server, serving({"/": says()}, host="127.0.0.2") as first:
        here = site(allow=("127.0.0.2/32",), names={"a.example": ["127.0.0.2"]})
        assert told(here.fetch(f"http://{address}:{server.port}/", timeout=9.0)) in (NOT_PUBLIC, NO_URL)
        assert shown(here.fetch(f"http://a.example:{first.port}/", timeout=9.0)) == "<p>hello"
        assert server.asked == []


@pytest.mark.parametrize("address", SPECIAL)
def test_no_redirect_leads_to_a_private_network(address: str) -> None:
    with serving({"/": says()}) as server:
        routes = {"/": redirects("/on"), "/on": redirects(f"http://{address}:{server.port}/")}
        with serving(routes, host="127.0.0.2") as first:
            here = site(allow=("127.0.0.2/32",), names={"a.example": ["127.0.0.2"]})
            assert told(here.fetch(f"http://a.example:{first.port}/", timeout=9.0)) in (NOT_PUBLIC, NO_URL)
            assert first.paths == ["/", "/on"]
            assert server.asked == []


def test_a_name_that_also_leads_to_a_private_network_is_refused() -> None:
    with serving({"/": says()}, host="127.0.0.2") as server:
        here = site(allow=("127.0.0.2/32",), names={"a.example": ["127.0.0.2", "127.0.0.1"]})
        assert told(here.fetch(f"http://a.example:{server.port}/", timeout=9.0)) == NOT_PUBLIC
        assert server.asked == []


def test_a_name_is_looked_up_once_for_a_connection() -> None:
    """A name server that gives the public address to who checks, and a private one to who connects, finds nobody to tell."""
    answers = iter([["127.0.0.2"], ["127.0.0.1"], ["127.0.0.1"]])
    here = site(allow=("127.0.0.2/32",), resolver=lambda name: next(answers))
    with two_servers({"/": says(b"public")}, {"/": says(b"private")}) as (public, private):
        url = f"http://rebinding.example:{public.port}/"
        assert shown(here.fetch(url, timeout=9.0)) == "public"
        assert told(here.fetch(url, timeout=9.0)) == NOT_PUBLIC
        assert (public.asked, private.asked) == ([(f"rebinding.example:{public.port}", "/")], [])


def test_a_redirect_to_the_same_name_is_looked_up_again() -> None:
    answers = iter([["127.0.0.2"], ["127.0.0.1"]])
    here = site(allow=("127.0.0.2/32",), resolver=lambda name: next(answers))
    with two_servers({"/": redirects("/on")}, {"/on": says(b"private")}) as (public, private):
        assert told(here.fetch(f"http://rebinding.example:{public.port}/", timeout=9.0)) == NOT_PUBLIC
        assert (public.paths, private.paths) == (["/"], [])


def test_connections_are_never_taken_for_those_of_another_host() -> None:
    """Three names on one port and two addresses, each of which leads to the next."""
    routes_one: dict[str, Said] = {"/1": b"", "/3": b""}
    routes_two: dict[str, Said] = {"/2": b"", "/4": says(b"end")}
    with two_servers(routes_one, routes_two) as (one, two):
        port = one.port
        routes_one |= {"/1": redirects(f"http://b.example:{port}/2"), "/3": redirects(f"http://c.example:{port}/4")}
        routes_two |= {"/2": redirects(f"http://a.example:{port}/3")}
        names = {"a.example": ["127.0.0.2"], "b.example": ["127.0.0.1"], "c.example": ["127.0.0.1"]}
        assert shown(site(names, allow=("127.0.0.0/30",)).fetch(f"http://a.example:{port}/1", timeout=9.0)) == "end"
        assert one.asked == [(f"a.example:{port}", "/1"), (f"a.example:{port}", "/3")]
        assert two.asked == [(f"b.example:{port}", "/2"), (f"c.example:{port}", "/4")]


# --- names and certificates ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def context_for(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def test_certificates_are_checked_for_the_name_and_not_the_address(authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with serving({"/": says(b"safe")}, tls=context_for(authority, "a.example")) as server:
        here = site(certificates=str(tmp_path / "ca.pem"))
        assert shown(here.fetch(f"https://a.example:{server.port}/", timeout=9.0)) == "safe"
        assert server.names == ["a.example"]
        assert server.asked == [(f"a.example:{server.port}", "/")]
        assert told(here.fetch(f"https://b.example:{server.port}/", timeout=9.0)) == "its certificate is not valid"
        assert told(here.fetch(f"https://127.0.0.1:{server.port}/", timeout=9.0)) == "its certificate is not valid"
        assert len(server.asked) == 1
        assert told(site().fetch(f"https://a.example:{server.port}/", timeout=9.0)) == "its certificate is not valid"


def test_one_address_with_two_names_makes_two_handshakes(authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    routes: dict[str, Said] = {"/1": b"", "/2": says(b"end")}
    with serving(routes, tls=context_for(authority, "a.example")) as server:
        routes["/1"] = redirects(f"https://b.example:{server.port}/2")
        here = site(certificates=str(tmp_path / "ca.pem"))
        assert told(here.fetch(f"https://a.example:{server.port}/1", timeout=9.0)) == "its certificate is not valid"
        assert server.names == ["a.example", "b.example"]
        assert server.paths == ["/1"]


def test_a_handshake_that_never_ends_is_left() -> None:
    left: list[bool] = []

    def silent(listening: socket.socket) -> None:
        connection = listening.accept()[0]
        with connection:
            connection.settimeout(4.0)
            try:
                while connection.recv(9999):
                    pass
                left.append(True)
            except TimeoutError:
                left.append(False)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=silent, args=(listening,))
        thread.start()
        url = f"https://a.example:{listening.getsockname()[1]}/"
        assert told(site().fetch(url, timeout=0.3)) == "it took longer than 0.3 s"
        thread.join()
    assert left == [True]


# --- too much -----------------------------------------------------------------------------------------------


def bomb(encoding: str, size: int) -> bytes:
    body = b"\0" * size
    return {"gzip": gzip.compress, "deflate": zlib.compress, "raw": lambda body: zlib.compress(body)[2:-4]}[encoding](body)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw"])
def test_a_decompression_bomb_costs_no_more_than_the_limit(encoding: str) -> None:
    header = "deflate" if encoding == "raw" else encoding
    with serving({"/": says(bomb(encoding, 64 * MEGABYTE), Content_Encoding=header)}) as server:
        here = site(max_bytes=MEGABYTE)
        here.fetch(f"http://a.example:{server.port}/404", timeout=9.0)  # what is imported once
        tracemalloc.start()
        try:
            found = here.fetch(f"http://a.example:{server.port}/", timeout=60.0)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert told(found) == f"the page is too large (at most {MEGABYTE} bytes are read)"
        assert peak < 4 * MEGABYTE


@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip,gzip,gzip", "br", "zstd", "compress", "gzip, identity", "x" * 100])
def test_other_and_several_compressions_are_refused(encoding: str) -> None:
    with serving({"/": says(gzip.compress(gzip.compress(b"x")), Content_Encoding=encoding)}) as server:
        found = site().fetch(f"http://a.example:{server.port}/", timeout=9.0)
        assert told(found) == "it is compressed in a way that is not read"
        assert server.headers[0]["accept-encoding"] == "gzip, deflate"


def test_the_limit_is_exact() -> None:
    whole, more = b"a" * 5000, b"a" * 5001
    routes = {"/whole": whole, "/more": more}
    packed = {f"{path}.gz": says(gzip.compress(body), Content_Encoding="gzip") for path, body in routes.items()}
    with serving({path: says(body) for path, body in routes.items()} | packed) as server:
        here, url = site(max_bytes=5000), f"http://a.example:{server.port}"
        for path in ("/whole", "/whole.gz"):
            assert shown(here.fetch(url + path, timeout=9.0)) == whole.decode()
        for path in ("/more", "/more.gz"):
            assert "too large (at most 5000 bytes" in told(here.fetch(url + path, timeout=9.0))


HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
PACKED = HTML + b"Content-Encoding: gzip\r\n\r\n"
ENDLESS = {
    "body": (HTML + b"\r\n", b"x" * 65536, "the page is too large"),
    "chunks": (
        HTML + b"Transfer-Encoding: chunked\r\n\r\n",
        (b"1;" + b"y" * 250 + b"\r\nx\r\n") * 99,
        "the server sends too much",
    ),
    "tiny chunks": (HTML + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000, "in too many pieces"),
    "nothing, compressed": (
        HTML + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"")[:10],
        b"\0\0\0\xff\xff" * 9999,
        "too much",
    ),
    "headers": (HTML, b"X-More: " + b"x" * 5000 + b"\r\n", "the server broke off"),
    "one header": (HTML + b"X-More: ", b"x" * 65536, "the server broke off"),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 50000 + b"\r\n\r\n", "the server sends too much"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_an_endless_answer_is_left(name: str) -> None:
    head, piece, reason = ENDLESS[name]
    routes: dict[str, Said] = {}
    with serving(routes) as server:
        routes["/"] = server.endlessly(head, piece)
        assert reason in told(site(max_bytes=MEGABYTE).fetch(f"http://a.example:{server.port}/", timeout=60.0))
    assert server.sent < 16 * MEGABYTE, "besides what was read, only what the system holds for a connection"


# --- too slow -----------------------------------------------------------------------------------------------

DRIPS = {
    "body": (HTML + b"Content-Length: 60\r\n\r\n", b"x"),
    "headers": (HTML + b"Content-Length: 0\r\nX-More: ", b"x"),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
}


@pytest.mark.parametrize("name", DRIPS)
def test_a_server_that_drips_is_left_when_the_time_is_up(name: str) -> None:
    """Each piece comes long before any time-out of its own, and after three seconds the answer would be whole."""
    head, piece = DRIPS[name]
    rest = {"headers": b"\r\n\r\n", "early hints": says()}.get(name, b"")
    routes: dict[str, Said] = {}
    with serving(routes) as server:

        def drip(connection: socket.socket) -> None:
            server.endlessly(head, piece, most=60 * len(piece), pause=0.05)(connection)
            connection.sendall(rest)

        routes["/"] = drip
        assert told(site().fetch(f"http://a.example:{server.port}/", timeout=0.4)) == "it took longer than 0.4 s"


def test_a_server_that_says_nothing_is_left_when_the_time_is_up() -> None:
    with serving({"/": served_page(after=1.5)}) as server:
        assert told(site().fetch(f"http://a.example:{server.port}/", timeout=0.4)) == "it took longer than 0.4 s"


def test_the_time_is_for_all_redirects_together() -> None:
    slow = {f"/{number}": served_page(redirects(f"/{number + 1}"), after=0.2) for number in range(9)}
    with serving(slow | {"/9": says()}) as server:
        assert told(site().fetch(f"http://a.example:{server.port}/0", timeout=0.7)) == "it took longer than 0.7 s"
        assert 1 <= len(server.asked) < 5


def test_a_lookup_that_hangs_is_left() -> None:
    end = threading.Event()
    here = site(resolver=lambda name: [str(end.wait(2.0))])  # whoever waits for it learns of no host
    try:
        assert told(here.fetch("http://a.example/", timeout=0.2)) == "it took longer than 0.2 s"
    finally:
        end.set()


# --- circles and lies ---------------------------------------------------------------------------------------


def test_a_circle_of_redirects_ends() -> None:
    with serving({"/a": redirects("/b"), "/b": redirects("/a")}) as server:
        here = site(redirects=3)
        assert (
            told(here.fetch(f"http://a.example:{server.port}/a", timeout=9.0)) == "it redirects too often (more than 3 times)"
        )
        assert server.paths == ["/a", "/b", "/a", "/b"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", "only http:// and https:// can be opened"),
        ("ftp://a.example/", "only http:// and https:// can be opened"),
        ("http://user:secret@a.example/", "a URL with a user name or password is not opened"),
        ("http://a.example:22/", "only these ports can be opened: "),
        ("http://[fe80::1%25eth0]/", NOT_PUBLIC),
        ("http://a%2eexample/", "it is not a URL"),
        ("http://[", "it is not a URL"),
        ("/" + "x" * 9000, "it is too long (more than 8192 characters)"),
    ],
)
def test_a_redirect_is_checked_like_a_url(status: int, location: str, reason: str) -> None:
    with serving({"/": redirects(location, status)}) as server:
        here = site(ports=(server.port, 80))
        assert told(here.fetch(f"http://a.example:{server.port}/", timeout=9.0)).startswith(reason)
        assert told(here.fetch(location if "://" in location else "http://a.example" + location, timeout=9.0)).startswith(
            reason
        )


LIES = {
    "longer than sent": says(b"x" * 10, Content_Length="100"),
    "huge": says(b"x" * 10, Content_Length="9" * 30),
    "negative": says(b"x" * 10, Content_Length="-1"),
    "two lengths": says(b"x" * 10, Content_Length="10\r\nContent-Length: 11"),
    "broken off in chunks": HTML + b"Transfer-Encoding: chunked\r\n\r\nff\r\nxx",
    "broken chunks": HTML + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nxx\r\n",
    "no answer": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n",
    "half a header": b"HTTP/1.1 200 OK\r\nConte",
    "compressed, broken off": says(gzip.compress(bytes(range(256)) * 9)[:-9], Content_Encoding="gzip"),
}


@pytest.mark.parametrize("name", LIES)
def test_answers_that_break_off_or_make_no_sense_are_errors(name: str) -> None:
    with serving({"/": LIES[name]}) as server:
        assert told(site().fetch(f"http://a.example:{server.port}/", timeout=9.0)) == "the server broke off"


def test_bytes_behind_the_end_of_an_answer_are_nothing() -> None:
    forged = says(b"first", Content_Length="5") + says(b"forged")
    with serving({"/": forged, "/next": says(b"next")}) as server:
        here, url = site(), f"http://a.example:{server.port}"
        assert shown(here.fetch(f"{url}/", timeout=9.0)) == "first"
        assert shown(here.fetch(f"{url}/next", timeout=9.0)) == "next"


def test_broken_compression_is_an_error() -> None:
    with serving({"/": says(b"no gzip at all", Content_Encoding="gzip")}) as server:
        assert told(site().fetch(f"http://a.example:{server.port}/", timeout=9.0)) == "it is compressed, and broken"


# --- what it takes along ------------------------------------------------------------------------------------


def test_no_cookie_is_kept_and_nothing_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine a.example login l password p\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    cookie = says(b"", 302, Location="/on", Set_Cookie="a=b; Path=/")
    with serving({"/": cookie, "/on": says(Set_Cookie="c=d"), "/end": says()}) as server:
        here = site()
        for path in ("/", "/end"):
            assert shown(here.fetch(f"http://a.example:{server.port}{path}", timeout=9.0)) == "<p>hello"
        assert server.paths == ["/", "/on", "/end"]
        for sent in server.headers:
            assert sent.keys() == {"host", "user-agent", "accept", "accept-encoding", "connection"}
