"""A page without what stands around its text: menus, advertisements, footers; found by trafilatura."""

from typing import Any

from .html import joined, to_page, to_record


def to_readable_record(html: str | bytes, url: str, title: str) -> dict[str, object]:
    """Returns the readable text of a page as plain data, with the links that are in it; a page that has none is returned whole.

    Args:
        html: any text; bytes are decoded as UTF-8.
        url: where it came from, to which its links are relative.
        title: instead of the one that it gives itself.
    """
    from trafilatura import extract, load_html

    whole = to_record(html, url, title)
    text = html.decode("utf-8", "replace") if isinstance(html, bytes) else html
    tree = load_html(text.replace("\0", "").encode("utf-8", "replace").decode("utf-8"))
    if tree is None:
        return whole
    _resolve_links(tree, url)
    kept = extract(tree, output_format="html", include_links=True, include_comments=False)
    if not kept:
        return whole
    page = to_page(kept, url, str(whole["title"]))
    return {"url": page.url, "title": page.title, "text": page.text, "links": list(page.links)} if page.text else whole


def _resolve_links(tree: Any, url: str) -> None:
    """Makes links absolute, which trafilatura takes to be relative to the host; of what is not a link, leaves only the text."""
    named = tree.xpath("//head//base/@href")[:1]
    base = (joined(url, str(named[0])) if named else None) or url
    for link in list(tree.iter("a")):
        href = link.get("href", "#")
        target = None if href.startswith("#") else joined(base, href)
        if target is None:
            link.drop_tag()
        else:
            link.set("href", target)
