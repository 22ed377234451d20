"""Runs calls through the browser of the package gpt-oss: `python reference.py CASES REPLIES`, both JSON; a script."""

import asyncio
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

LONGEST = 400
"""Characters in the longest word."""


class Words:
    """An encoding whose tokens are words; a token is the length of its word."""

    n_vocab = LONGEST

    def encode(self, text: str, **kwargs: object) -> list[int]:
        return [len(word) for word in re.findall(r"\S+\s*", text)]

    def decode(self, tokens: list[int]) -> str:
        return "x" * tokens[0]


class Pages:
    """What the browser asks for pages."""

    source = "cases"

    def __init__(self, pages: dict[str, dict[str, object]]) -> None:
        self.pages = pages

    async def fetch(self, url: str, session: object) -> object:
        from gpt_oss.tools.simple_browser.page_contents import PageContents

        page = self.pages[url]
        return PageContents(
            url=url, urls={str(i): link for i, link in enumerate(page["links"])}, title=page["title"], text=page["text"]
        )


async def replies(case: dict[str, list]) -> list[str]:
    from gpt_oss.tools.simple_browser import SimpleBrowserTool

    tool = SimpleBrowserTool(backend=Pages(case["pages"]), view_tokens=case["view_tokens"])
    said = []
    for name, arguments in case["calls"]:
        async for message in getattr(tool, name)(**arguments):
            said.append(message.content[0].text)
    return said


def linked(html: str) -> dict[str, object]:
    """Returns the links that it finds in HTML."""
    from gpt_oss.tools.simple_browser.page_contents import process_html

    page = process_html(html, "https://a.example/dir/page.html", None)
    return {"links": list(page.urls.values()), "marks": re.findall(r"【\d+†[^】]*】", page.text), "title": page.title}


if __name__ == "__main__":
    import tiktoken

    tiktoken.get_encoding = lambda name: Words()
    cases = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    found = SimpleNamespace(
        replies=[asyncio.run(replies(case)) for case in cases["browsed"]], links=[linked(html) for html in cases["html"]]
    )
    Path(sys.argv[2]).write_text(json.dumps(vars(found)), encoding="utf-8")
