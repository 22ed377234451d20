"""A folder of HTML as a site, such as the documentation that a distribution ships."""

import hashlib
import json
import threading
import zlib
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from ...errors import ConfigError
from ...tasks.world import Document as Text
from ...tasks.world import cache_directory, write_atomically
from .charsets import decoded
from .conversion import FORMAT, MAX_HTML, read
from .page import Page, without_links
from .sources import Document, Hit, PageError

if TYPE_CHECKING:
    from ..search import Index

_FORMAT = 2
"""Raised whenever the same files give other documents."""
_ENDINGS = (".html", ".htm", ".xhtml")
_SUMMARY = 200
_ONE_AT_A_TIME = threading.Lock()
"""Held while pages are read for searches: others wait for the same index."""


class FolderSite:
    """All HTML files below a folder; for searches, all are read before the first episode, and kept in the user's cache.

    Nothing outside the folder can be reached: not by `..`, not by a link on the file system, not by a `file:` URL.

    Args:
        folder: where the files are.
        base: the URL that stands for the folder; it ends with a slash.
        show_progress: whether reading all files shows a bar on standard error.

    Raises:
        ConfigError: there is no such folder, it holds no HTML, or the base is not a URL.
    """

    searches = True
    trusted = False

    def __init__(self, folder: str | Path, *, base: str = "https://docs.example/", show_progress: bool = True) -> None:
        self.folder, self.base, self.show_progress = Path(folder).resolve(), base, show_progress
        if not self.folder.is_dir():
            raise ConfigError(f"There is no folder {folder}.")
        if not base.startswith(("http://", "https://")) or not base.endswith("/"):
            raise ConfigError(f"base must be a URL such as https://docs.example/, with a slash at its end; got {base!r}.")
        if not self.paths:
            raise ConfigError(f"There is no HTML in {folder}: no file ends in {', '.join(_ENDINGS)}.")

    def __reduce__(self) -> tuple[object, tuple[str, str, bool]]:
        """Pickles by its arguments: the files are listed again on the other side."""
        return _rebuilt, (str(self.folder), self.base, self.show_progress)

    def __deepcopy__(self, memo: dict[int, object]) -> "FolderSite":
        """Returns itself: nothing in it ever changes."""
        return self

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The files of the site, relative to the folder, in alphabetical order; links that lead out of it are none."""
        found = (path for path in self.folder.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())
        return tuple(sorted(path.relative_to(self.folder).as_posix() for path in found if self._is_inside(path)))

    def key(self) -> str:
        """Returns a digest of which files there are, how long, and of when."""
        return self._key

    @cached_property
    def _key(self) -> str:
        states = [(path, (self.folder / path).stat()) for path in self.paths]
        listed = repr([FORMAT, _FORMAT, self.base, [(path, state.st_size, state.st_mtime_ns) for path, state in states]])
        return hashlib.blake2b(listed.encode("utf-8", "replace"), digest_size=12).hexdigest()

    @property
    def name(self) -> str:
        """What distinguishes it from other sources."""
        return f"site of {self.folder.name} ({self._key})"

    def __eq__(self, other: object) -> bool:
        """Sites are equal when they have the same files."""
        return isinstance(other, FolderSite) and (other.folder, other._key) == (self.folder, self._key)

    def __hash__(self) -> int:
        """Equal sites share an index."""
        return hash((self.folder, self._key))

    def url(self, path: str) -> str:
        """Returns the URL of a file."""
        return self.base + quote(path, errors="surrogateescape")

    def fetch(self, url: str, *, timeout: float) -> Document | PageError:
        """Returns the file that a URL means, in a folder its `index.html`, to which the URL of the folder leads on."""
        bare = url.partition("#")[0].partition("?")[0]
        if not f"{bare}/".startswith(self.base):
            return PageError(f"it is not on this site, {self.base}")
        try:
            path = (self.folder / unquote(bare[len(self.base) :], errors="surrogateescape").lstrip("/")).resolve()
            if path.is_dir():
                path, url = path / "index.html", url if bare.endswith("/") else f"{bare}/{url[len(bare) :]}"
            if not self._is_inside(path) or not path.is_file():
                return PageError("there is no such page")
            if path.suffix.lower() not in _ENDINGS:
                return PageError("it is not an HTML page")
            with path.open("rb") as file:
                body = file.read(MAX_HTML + 1)
            return Document(url, decoded(body) if len(body) <= MAX_HTML else body)  # what is too large is not read
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, or links in a circle
            return PageError("there is no such page")

    def prepare_search(self) -> None:
        """Makes it searchable: reading all pages may take longer than a call may."""
        _ = self._searchable

    def search(self, query: str, count: int, *, timeout: float) -> list[Hit] | PageError:
        """Returns the pages that fit best; where `prepare_search` was not called, it first reads all of them."""
        index, paths = self._searchable
        found = [(paths[number], index.documents[number]) for number in index.numbers(query, count)]
        return [Hit(self.url(path), document.title, document.text[:_SUMMARY]) for path, document in found]

    # --- what is searched -----------------------------------------------------------------------------------

    @cached_property
    def _searchable(self) -> "tuple[Index, tuple[str, ...]]":
        with _ONE_AT_A_TIME:
            return _index_of(self)

    def documents(self) -> list[Text]:
        """Returns the text of every page that can be read, with spaces for line breaks."""
        return [Text(title, text) for _, title, text in self._read]

    @cached_property
    def _read(self) -> list[tuple[str, str, str]]:
        kept = cache_directory() / f"site-{self._key}.json.z"
        try:
            return [(path, title, text) for path, title, text in json.loads(zlib.decompress(kept.read_bytes()))]
        except (OSError, ValueError, zlib.error):
            read = list(self._reading())
            write_atomically(kept, zlib.compress(json.dumps(read).encode(), 6))
            return read

    def _reading(self) -> Iterator[tuple[str, str, str]]:
        from rich.console import Console
        from rich.progress import track

        shown = Console(stderr=True)
        for path in track(
            self.paths, f"Reading {self.folder.name}", console=shown, disable=not self.show_progress, transient=True
        ):
            page = read(self, self.url(path))
            if isinstance(page, Page):
                yield path, page.title, " ".join(without_links(page.text).split())

    def _is_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.folder)


@lru_cache(maxsize=8)
def _index_of(site: FolderSite) -> "tuple[Index, tuple[str, ...]]":
    """Returns the index of a site, which equal sites share, and the paths of its documents."""
    from ..search import SearchTool

    return SearchTool(site).index, tuple(path for path, _, _ in site._read)


def _rebuilt(folder: str, base: str, show_progress: bool) -> FolderSite:
    return FolderSite(folder, base=base, show_progress=show_progress)
