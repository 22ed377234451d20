"""A site of a few pages, for tests."""

from collections.abc import Sequence

from arpo_envs.tools.browser import Document, Hit, PageError

HOME = "https://a.example/"
PAGES = {
    HOME: "<title>Home</title><h1>Home</h1><p>To <a href='one'>one</a> and <a href='two'>two</a>.",
    f"{HOME}one": "<title>One</title><p>The first. <a href='two'>Next</a>, <a href='/'>home</a>"
    + "<p>more" * 20
    + "<p>the end",
    f"{HOME}two": "<title>Two</title><p>The second. <a href='gone'>Gone</a> <a href='https://c.example/'>away</a>",
}


class Site:
    """Pages that are kept in memory, and can be searched if so asked."""

    def __init__(self, *, searches: bool = True, trusted: bool = True) -> None:
        self.name, self.searches, self.trusted = "site", searches, trusted
        self.fetched: list[str] = []

    def fetch(self, url: str, *, timeout: float) -> Document | PageError:
        self.fetched.append(url)
        return Document(url, PAGES[url]) if url in PAGES else PageError("there is no such page")

    def search(self, query: str, count: int, *, timeout: float) -> Sequence[Hit] | PageError:
        if query == "broken":
            return PageError("the index is broken")
        hits = [Hit(url, url[len(HOME) :] or "home", html[-20:]) for url, html in PAGES.items() if query in html]
        return hits[:count]
