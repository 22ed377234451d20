"""The live web as a source: charsets, kinds of content, what robots may do, what is tried again, and whose fault it is."""

import copy
import errno
import pickle
import socket
from typing import Any

import pytest
from web_servers import Said, redirects, says, serving, shown, site, told

from arpo_envs.errors import ConfigError, ToolFault
from arpo_envs.tools.browser import Document, LiveSite, PageError, PageSource, read
from arpo_envs.tools.browser.charsets import decoded
from arpo_envs.tools.browser.http.robots import Robots
from arpo_envs.tools.browser.page import Page

FORBIDDEN = "the site's robots.txt forbids it"
UNREACHABLE = "the site's robots.txt cannot be reached, which forbids everything to robots"


# --- what is read -------------------------------------------------------------------------------------------


def test_a_page_is_where_its_redirects_end_without_fragment() -> None:
    with serving({"/a": redirects("b/c?d=e#f"), "/b/c": says(b"<title>C</title><a href='x'>X</a>")}) as server:
        page = read(site(), f"HTTP://A.example:{server.port}/a#top", timeout=60.0)
        assert isinstance(page, Page), page
        assert (page.url, page.title) == (f"http://a.example:{server.port}/b/c?d=e", "C")
        assert page.links == (f"http://a.example:{server.port}/b/x",)


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("text/html; charset=ISO-8859-1", b"caf\xe9 \x80", "café €"),
        ("text/html; charset=utf-8", b"<meta charset=windows-1251>\xc3\xa9", "é"),
        ("text/html", b"<meta charset='windows-1251'>\xcc\xe8\xf0", "Мир"),
        ("text/html", b"<META http-equiv=content-type content='text/html; charset=Shift_JIS'>\x83\x65", "テ"),
        ("application/xhtml+xml", b"<?xml version='1.0' encoding='koi8-r'?>\xed\xc9\xd2", "Мир"),
        ("text/html; charset=ISO-8859-1", b"\xef\xbb\xbf\xc3\xa9", "é"),
        ("text/html; charset=latin1", b"\xff\xfea\0b\0", "ab"),
        ("text/html; charset=utf-16be", b"\0a\0b", "ab"),
        ("text/html", b"<meta charset=utf-16>\xc3\xa9", "é"),
        ("text/html", b"caf\xe9", "caf�"),
        ("text/html; charset=no-such-thing", b"\xc3\xa9", "é"),
        ("text/html; charset=punycode", b"\xc3\xa9", "é"),
        ("text/html; charset=unicode_escape", rb"\x41", r"\x41"),
        ("text/html; charset=zip", b"\xc3\xa9", "é"),
        ("", b"\xc3\xa9", "é"),
    ],
)
def test_charsets(kind: str, body: bytes, text: str) -> None:
    with serving({"/": says(body, Content_Type=kind)}) as server:
        assert shown(site().fetch(f"http://a.example:{server.port}/", timeout=9.0)).endswith(text)


def test_no_bytes_fail_in_any_charset() -> None:
    everything = bytes(range(256)) * 4
    for name in ("utf-8", "utf-16", "gb18030", "big5", "euc-jp", "iso-2022-jp", "sjis", "euc-kr", "koi8-u", "macintosh"):
        assert decoded(everything, name) != decoded(b"", name)
    for number in (*range(1, 12), 13, 14, 15, 16):
        assert decoded(b"a", f"iso-8859-{number}") == "a"
    for number in range(1250, 1259):
        assert decoded(b"a", f"windows-{number}") == "a"


def test_plain_text_is_a_page_as_it_is() -> None:
    with serving({"/a": says(b"\n1 < 2 & <b>3</b>\n\n  4", Content_Type="text/plain")}) as server:
        page = read(site(), f"http://a.example:{server.port}/a", timeout=60.0)
        assert isinstance(page, Page), page
        assert page.text == "1 < 2 & <b>3</b>\n\n  4"


@pytest.mark.parametrize("kind", ["application/pdf", "image/png", "application/json", "text/css", "application/octet-stream"])
def test_other_kinds_are_refused_unread(kind: str) -> None:
    routes: dict[str, Said] = {}
    with serving(routes) as server:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode()
        routes["/"] = server.endlessly(head, b"x" * 65536)
        assert told(site().fetch(f"http://a.example:{server.port}/", timeout=9.0)) == f"it is not a page but {kind}"
        assert told(site().fetch(f"http://a.example:{server.port}/404", timeout=9.0)) == "the server answered with status 404"


@pytest.mark.parametrize("status", [201, 204, 206, 300, 304, 401, 403, 404, 410, 418, 500, 999])
def test_other_statuses_are_errors(status: int) -> None:
    with serving({"/": says(b"" if status in (204, 304) else b"x", status)}) as server:
        assert (
            told(site().fetch(f"http://a.example:{server.port}/", timeout=9.0)) == f"the server answered with status {status}"
        )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "only http:// and https://"),
        ("javascript:alert(1)", "only http:// and https://"),
        ("a.example/x", "only http:// and https://"),
        ("", "only http:// and https://"),
        ("http://user@a.example/", "a URL with a user name"),
        ("http://:secret@a.example/", "a URL with a user name"),
        ("http://a.example:22/", "only these ports can be opened: 80, 443"),
        ("https://a.example:80000/", "only these ports can be opened: 80, 443"),
        ("http://a b.example/", "it is not a URL"),
        ("http://a.example\r\nX: y/", "it is not a URL"),
        ("http://a\\@b.example/", "a URL with a user name"),
        ("http://\ud800/", "it is not a URL"),
        ("http://[::1%25lo]/", "its address is not a public one"),
        ("http://１２７.0.0.1/", "it is not a URL"),
        ("http://1.2.3.4.5/", "there is no such host"),
        ("http://nowhere.example/", "there is no such host"),
    ],
)
def test_what_is_no_url_of_the_web_is_refused(url: str, reason: str) -> None:
    def nowhere(name: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "none")

    found = LiveSite(resolver=nowhere, robots=False).fetch(url, timeout=9.0)
    assert told(found).startswith(reason)


def test_a_server_that_is_gone() -> None:
    with serving({}) as server:
        pass
    assert told(site().fetch(f"http://a.example:{server.port}/", timeout=9.0)) == "the server cannot be reached"
    assert told(site({"a.example": []}).fetch(f"http://a.example:{server.port}/", timeout=9.0)) == "there is no such host"
    with serving({"/": says()}) as server:
        here = site({"a.example": ["127.0.0.3", "127.0.0.1"]}, allow=("127.0.0.0/8",))
        assert shown(here.fetch(f"http://a.example:{server.port}/", timeout=9.0)) == "<p>hello"


# --- robots -------------------------------------------------------------------------------------------------

ROBOTS = says(b"User-agent: arpo-envs\nDisallow: /no\nAllow: /no/but\n\nUser-agent: *\nDisallow: /")


def test_robots_are_obeyed_on_every_step() -> None:
    routes = {"/robots.txt": ROBOTS, "/a": redirects("/no"), **dict.fromkeys(("/yes", "/no", "/no/but"), says())}
    with serving(routes) as server:
        here, url = site(robots=True, user_agent="arpo-envs/1.0 (+https://a.example/bot)"), f"http://a.example:{server.port}"
        assert shown(here.fetch(f"{url}/yes", timeout=60.0)) == "<p>hello"
        assert shown(here.fetch(f"{url}/no/but", timeout=60.0)) == "<p>hello"
        assert told(here.fetch(f"{url}/no", timeout=60.0)) == FORBIDDEN
        assert told(here.fetch(f"{url}/a", timeout=60.0)) == FORBIDDEN
        assert server.paths == ["/robots.txt", "/yes", "/no/but", "/a"]
        assert server.headers[1]["user-agent"] == "arpo-envs/1.0 (+https://a.example/bot)"
        assert told(site(robots=True, user_agent="other").fetch(f"{url}/yes", timeout=60.0)) == FORBIDDEN
        assert shown(site().fetch(f"{url}/no", timeout=60.0)) == "<p>hello"


SIX = {f"/{number}": redirects(f"/{number + 1}") for number in range(5)} | {"/5": says(b"User-agent: *\nDisallow: /")}
MEANINGS: dict[str, tuple[dict[str, Said], bool | str]] = {
    "none": ({}, True),
    "forbidden": ({"/robots.txt": says(b"Disallow: /", 403)}, True),
    "server error": ({"/robots.txt": says(b"", 500)}, UNREACHABLE),
    "busy": ({"/robots.txt": says(b"", 503)}, UNREACHABLE),
    "broken off": ({"/robots.txt": says(b"x", Content_Length="9")}, UNREACHABLE),
    "elsewhere": ({"/robots.txt": redirects("/0"), "/0": says(b"User-agent: *\nDisallow: /")}, FORBIDDEN),
    "private": ({"/robots.txt": redirects("http://10.0.0.1/robots.txt")}, UNREACHABLE),
    "five redirects": (SIX | {"/robots.txt": redirects("/1")}, FORBIDDEN),
    "six redirects": (SIX | {"/robots.txt": redirects("/0")}, True),
    "no page": ({"/robots.txt": says(b"User-agent: *\nDisallow: /", Content_Type="image/png")}, FORBIDDEN),
    "begins in time": ({"/robots.txt": says(b"User-agent: *\nDisallow: /\n" + b"# more\n" * 100_000)}, FORBIDDEN),
    "too late": ({"/robots.txt": says(b"# more\n" * 100_000 + b"User-agent: *\nDisallow: /\n")}, True),
    "no text": ({"/robots.txt": says(bytes(range(256)) * 100)}, True),
}


@pytest.mark.parametrize("name", MEANINGS)
def test_what_a_site_without_rules_allows(name: str) -> None:
    routes, meant = MEANINGS[name]
    with serving(routes | {"/page": says()}) as server:
        here, url = site(robots=True), f"http://a.example:{server.port}/page"
        for _ in range(2):
            found = here.fetch(url, timeout=60.0)
            assert (isinstance(found, Document) or told(found).partition(":")[0]) == meant
        assert server.paths.count("/robots.txt") == 1, "it is remembered"


def test_robots_are_asked_for_at_public_addresses_only() -> None:
    with serving({"/robots.txt": says(), "/": says()}) as server:
        found = site(allow=(), robots=True).fetch(f"http://a.example:{server.port}/", timeout=9.0)
        assert told(found) == f"{UNREACHABLE}: its address is not a public one"
        assert server.asked == []


def test_rules_that_take_gigabytes_end_no_process_but_their_own() -> None:
    agents = b"".join(b"User-agent: b%d\n" % number for number in range(15_000))
    with serving({"/robots.txt": says(agents + b"Disallow: /a\n" * 20_000), "/": says()}) as server:
        found = site(robots=True).fetch(f"http://a.example:{server.port}/", timeout=60.0)
        assert told(found) == "the site's robots.txt cannot be read, which forbids everything to robots"


def test_rules_are_asked_for_again_after_a_day_or_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    routes: dict[str, Said] = {"/robots.txt": says(b"", 500), "/": says()}
    with serving(routes) as server:
        here = site(robots=True)
        vars(here)["_robots"] = Robots("arpo-envs", lambda: now[0])
        results = []
        for now[0] in (0.0, 59.0, 61.0, 86400.0, 86400.0 + 62.0):
            found = here.fetch(f"http://a.example:{server.port}/", timeout=60.0)
            results.append(isinstance(found, Document))
            routes["/robots.txt"] = says(b"User-agent: *\nDisallow: /x")
        assert results == [False, False, True, True, True]
        assert server.paths.count("/robots.txt") == 3


# --- again, and not too soon ----------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [says(b"", 503), says(b"", 429, Retry_After="0"), says(b"x", Content_Length="9"), b""])
def test_what_passes_is_tried_again(first: bytes) -> None:
    answers = iter([first, says(b"second")])
    with serving({"/": lambda connection: connection.sendall(next(answers))}) as server:
        assert shown(site(tries=2).fetch(f"http://a.example:{server.port}/", timeout=60.0)) == "second"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(says(b"", 503, Retry_After="99"), "status 503"), (says(b"", 404), "status 404"), (says(b"", 500), "status 500")],
)
def test_what_does_not_pass_in_time_is_asked_for_once(answer: bytes, reason: str) -> None:
    with serving({"/": answer}) as server:
        assert reason in told(site(tries=5).fetch(f"http://a.example:{server.port}/", timeout=60.0))
        assert len(server.asked) == 1


def test_a_site_that_wants_more_time_between_visits_gets_it() -> None:
    slow = says(b"User-agent: *\nCrawl-delay: 1000")
    with serving({"/robots.txt": slow, "/": says()}) as server:
        url = f"http://a.example:{server.port}/"
        for here in (site(robots=True), site(delay=1000.0)):
            assert shown(here.fetch(url, timeout=60.0)) == "<p>hello"
            assert told(here.fetch(url, timeout=60.0)).startswith("the site wants more time")
            assert shown(here.fetch(url.replace("a.", "b."), timeout=60.0)) == "<p>hello"
        assert server.paths.count("/") == 4


# --- whose fault it is ----------------------------------------------------------------------------------------


def test_no_name_server_is_a_fault_of_the_machine() -> None:
    answers: list[Any] = [socket.gaierror(socket.EAI_AGAIN, "again"), ["127.0.0.1"], socket.gaierror(socket.EAI_AGAIN, "again")]

    def ask(name: str) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with serving({"/": says()}) as server:
        here, url = site(resolver=ask), f"http://a.example:{server.port}/"
        with pytest.raises(ToolFault, match="Check that this machine is online"):
            here.fetch(url, timeout=9.0)
        assert shown(here.fetch(url, timeout=9.0)) == "<p>hello"
        assert told(here.fetch(url, timeout=9.0)) == "there is no such host", "one that fails among others is the host's"


@pytest.mark.parametrize(
    ("number", "version", "fault"), [(errno.EMFILE, 4, True), (errno.ENETUNREACH, 4, True), (errno.ENETUNREACH, 6, False)]
)
def test_no_network_is_a_fault_of_the_machine(number: int, version: int, fault: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(number, "as told")

    monkeypatch.setattr(socket, "create_connection", fails)
    here = site({"a.example": ["127.0.0.1" if version == 4 else "::1"]}, allow=("127.0.0.1", "::1"))
    if fault:
        with pytest.raises(ToolFault):
            here.fetch("http://a.example/", timeout=9.0)
    else:
        assert told(here.fetch("http://a.example/", timeout=9.0)) == "the server cannot be reached"


# --- as a source ----------------------------------------------------------------------------------------------


def test_a_live_site_is_a_source_that_goes_anywhere() -> None:
    here = LiveSite(allow=["10.0.0.0/8"], ports=[80])
    assert isinstance(here, PageSource)
    assert isinstance(here.search("x", 3, timeout=1.0), PageError)
    assert copy.deepcopy(here) is here
    again = pickle.loads(pickle.dumps(here))
    assert (again, again.name) == (here, here.name)
    assert {again, LiveSite(allow=("10.0.0.0/8",), ports=(80,))} == {here}


def test_its_name_tells_what_changes_pages() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"allow": ("10.0.0.0/8",)},
        {"ports": None},
        {"robots": False},
        {"user_agent": "x"},
        {"redirects": 1},
        {"max_bytes": 9},
    ]
    assert len({LiveSite(**change).name for change in changes}) == len(changes)
    assert LiveSite(delay=1.0, tries=3).name == LiveSite().name


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"allow": ("a.example",)}, "allow must hold networks"),
        ({"tries": 0}, "tries and max_bytes"),
        ({"max_bytes": 0}, "tries and max_bytes"),
        ({"redirects": -1}, "redirects and delay"),
        ({"delay": -1.0}, "redirects and delay"),
        ({"user_agent": "a\r\nX: y"}, "printable ASCII"),
        ({"user_agent": " "}, "printable ASCII"),
        ({"certificates": "/nowhere.pem"}, "There is no file"),
    ],
)
def test_arguments_are_checked(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LiveSite(**wrong)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arpo_envs.tools.browser.live_site.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'arpo-envs\[browse\]'"):
        LiveSite()
