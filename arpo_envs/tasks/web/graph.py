"""The graph of a source's pages, whose edges are exactly the links that the browser displays."""

from collections.abc import Callable, Collection, Sequence

Links = Callable[[str], Sequence[str]]
"""Returns the URLs of the links that a page displays; none for what cannot be shown."""


def fewest_clicks(links: Links, start: str, targets: Collection[str], *, at_most: int) -> int | None:
    """Returns how many links must be opened at least to get from one page to any of others, by breadth-first search.

    Args:
        links: what each page links to.
        start: the URL of the page to begin at.
        targets: the URLs to reach.
        at_most: None is returned if more than that are needed.

    >>> site = {"a": ["b", "c"], "b": ["a", "d"], "c": [], "d": ["c"]}
    >>> fewest_clicks(site.__getitem__, "a", {"d"}, at_most=5), fewest_clicks(site.__getitem__, "a", {"d"}, at_most=1)
    (2, None)
    """
    if start in targets:
        return 0
    seen, reached = {start}, [start]
    for clicks in range(1, at_most + 1):
        behind = dict.fromkeys(link for page in reached for link in links(page))
        if any(target in behind for target in targets):
            return clicks
        reached = [page for page in behind if page not in seen]
        seen.update(reached)
    return None
