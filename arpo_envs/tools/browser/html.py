"""HTML as lines of text in which every link keeps its place; what is not text is dropped."""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from .page import Page, link_mark, without_marks

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_DROPPED = frozenset(
    {"head", "script", "style", "template", "math", "svg", "noscript", "iframe", "object", "-comment", "-doctype"}
)
_APART = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table", "pre", "blockquote", "figure", "form"})
"""Elements with an empty line before and after them."""
_OWN_LINE = frozenset(
    {
        *("li", "dt", "dd", "tr", "caption", "div", "section", "article", "header", "footer", "nav", "main", "aside", "body"),
        *("html", "fieldset", "details", "summary", "figcaption", "address", "center", "option", "thead", "tbody", "tfoot"),
    }
)
_DEEPEST_LIST = 10
"""A list within more lists than this one is not moved further to the right."""
_RAISED = {"sup": "^{", "sub": "_{"}
_SPACE = re.compile(r"\s+")
_SCHEMES = frozenset({"http", "https"})


def to_page(html: str | bytes, url: str, title: str = "") -> Page:
    """Returns HTML as a page.

    Args:
        html: any text; bytes are decoded as UTF-8.
        url: where it came from, to which its links are relative.
        title: instead of the one that it gives itself.

    >>> page = to_page("<title>A</title><p>To <a href='b'>B</a>, <a href='//c.example/'>C</a>", "https://a.example/x")
    >>> page.text, page.links
    ('To 【0†B】, 【1†C†c.example】', ('https://a.example/b', 'https://c.example/'))
    """
    from selectolax.lexbor import LexborHTMLParser

    text = html.decode("utf-8", "replace") if isinstance(html, bytes) else html
    parsed = LexborHTMLParser(text.encode("utf-8", "replace").decode("utf-8"))
    named = parsed.css_first("head title")
    base = parsed.css_first("head base[href]")
    writer = _Writer(url, joined(url, base.attributes.get("href") or "") or url if base is not None else url)
    if parsed.root is not None:
        _walk(parsed.root, writer)
    own = _SPACE.sub(" ", named.text()).strip() if named is not None else ""
    return Page(url, without_marks(title or own or urlsplit(url).netloc), writer.text(), tuple(writer.numbers or ()))


def to_record(html: str | bytes, url: str, title: str) -> dict[str, object]:
    """Returns a page as plain data, for a process that can send nothing else."""
    page = to_page(html, url, title)
    return {"url": page.url, "title": page.title, "text": page.text, "links": list(page.links)}


@dataclass
class _Writer:
    """The text so far. Spaces and line breaks are only written before what follows them.

    Args:
        url: of the page.
        base: what links are relative to.
        numbers: the id of each link's URL; None inside a link, where no other can begin.
    """

    url: str
    base: str
    numbers: dict[str, int] | None = field(default_factory=dict)
    images: int = 0
    lists: list[int] = field(default_factory=list)
    verbatim: int = 0
    _pieces: list[str] = field(default_factory=list)
    _breaks: int = 0
    _space: bool = False

    def break_line(self, count: int) -> None:
        """Begins a new line, or leaves an empty one, unless that has been done."""
        self._breaks, self._space = max(self._breaks, count), False

    def write(self, text: str) -> None:
        """Appends text in which spaces are as good as one."""
        if self.verbatim:
            self._append(text)
            return
        bare = _SPACE.sub(" ", text)
        self._space = self._space or bare.startswith(" ")
        if bare := bare.strip(" "):
            self._append((" " if self._space and not self._breaks and self._pieces else "") + bare)
            self._space = text[-1].isspace()

    def mark(self, text: str) -> None:
        """Appends what begins a line, such as the star of a list."""
        self._append(text)
        self._space = False

    def text(self) -> str:
        """Returns all, without spaces at the ends of lines, and with one empty line at most between two others."""
        lines = "\n".join(line.rstrip() for line in "".join(self._pieces).split("\n"))
        return re.sub(r"\n{3,}", "\n\n", lines).strip("\n")

    def _append(self, text: str) -> None:
        if self._breaks and self._pieces:
            self._pieces.append("\n" * self._breaks)
        self._breaks = 0
        self._pieces.append(text)


def _walk(root: "LexborNode", writer: _Writer) -> None:
    """Writes all below a node, without recursion: pages may be nested deeply."""
    waiting: list[tuple[LexborNode, bool]] = [(root, False)]
    while waiting:
        node, leaving = waiting.pop()
        if leaving:
            _leave(node.tag or "", writer)
            continue
        if node is not root and (behind := node.next) is not None:
            waiting.append((behind, False))
        if not _enter(node, writer):
            continue
        waiting.append((node, True))
        if (inside := node.first_child) is not None:
            waiting.append((inside, False))


def _enter(node: "LexborNode", writer: _Writer) -> bool:
    """Writes the beginning of an element, or all of it; returns whether what is inside comes next."""
    tag = node.tag or ""
    if tag == "-text":
        writer.write(without_marks(node.text_content or "").replace("\r\n", "\n").replace("\r", "\n"))
    if tag.startswith("-") or tag in _DROPPED:
        return False
    if tag == "a" and writer.numbers is not None and (href := node.attributes.get("href")) is not None:
        writer.write(_linked(node, href, writer, writer.numbers))
        return False
    if tag == "img":
        writer.write(_image(node, writer))
        return False
    if tag in ("br", "hr"):
        _rule(tag, writer)
        return False
    _open(tag, node, writer)
    return True


def _rule(tag: str, writer: _Writer) -> None:
    if tag == "br" and writer.verbatim:
        writer.write("\n")
        return
    writer.break_line(1 if tag == "br" else 2)
    if tag == "hr":
        writer.mark("* * *")
        writer.break_line(2)


def _open(tag: str, node: "LexborNode", writer: _Writer) -> None:
    inside_a_list = tag in ("ul", "ol") and bool(writer.lists)
    if tag in _APART and not inside_a_list:
        writer.break_line(2)
    elif tag in _OWN_LINE or inside_a_list:
        writer.break_line(1)
    if tag in ("ul", "ol"):
        writer.lists.append(1 if tag == "ol" else 0)
    elif tag == "li":
        writer.mark(_bullet(writer))
    elif len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
        writer.mark("#" * int(tag[1]) + " ")
    elif tag == "dd":
        writer.mark("    ")
    elif tag in ("td", "th") and _before(node) is not None:
        writer.write(" | ")
    elif tag == "pre":
        writer.verbatim += 1
    elif tag in _RAISED:
        writer.write(_RAISED[tag])


def _before(node: "LexborNode") -> "LexborNode | None":
    before = node.prev
    while before is not None and not before.is_element_node:
        before = before.prev
    return before


def _bullet(writer: _Writer) -> str:
    depth, number = min(max(len(writer.lists), 1), _DEEPEST_LIST), writer.lists[-1] if writer.lists else 0
    if number:
        writer.lists[-1] += 1
    return "  " * depth + (f"{number}. " if number else "* ")


def _leave(tag: str, writer: _Writer) -> None:
    if tag in ("ul", "ol") and writer.lists:
        writer.lists.pop()
        writer.break_line(1 if writer.lists else 2)
    elif tag == "pre":
        writer.verbatim -= 1
        writer.break_line(2)
    elif tag in _RAISED:
        writer.write("}")
    elif tag in _APART:
        writer.break_line(2)
    elif tag in _OWN_LINE:
        writer.break_line(1)


def _image(node: "LexborNode", writer: _Writer) -> str:
    number, writer.images = writer.images, writer.images + 1
    name = _SPACE.sub(" ", without_marks(node.attributes.get("alt") or node.attributes.get("title") or "")).strip()
    return f"[Image {number}: {name}]" if name else f"[Image {number}]"


def _linked(node: "LexborNode", href: str, writer: _Writer, numbers: dict[str, int]) -> str:
    """Returns a link with its id, or its text alone if it leads nowhere else."""
    inside = _Writer(writer.url, writer.base, numbers=None, images=writer.images)
    child = node.first_child
    while child is not None:
        _walk(child, inside)
        child = child.next
    writer.images = inside.images
    text = _SPACE.sub(" ", inside.text()).strip()
    target = None if href.startswith("#") else joined(writer.base, href)
    if not text or target is None:
        return text
    domain = urlsplit(target).netloc
    number = numbers.setdefault(target, len(numbers))
    return link_mark(number, text, "" if domain == urlsplit(writer.url).netloc else without_marks(domain))


def joined(base: str, link: str) -> str | None:
    """Returns the URL that a link means, None for what is not a page: mail, scripts, nonsense.

    >>> joined("https://a.example/b/", "c"), joined("https://a.example/b/", "mailto:d@a.example")
    ('https://a.example/b/c', None)
    """
    try:
        joined = urljoin(base, link.strip())
        parts = urlsplit(joined)
    except ValueError:
        return None
    return joined if parts.scheme in _SCHEMES and parts.netloc else None
