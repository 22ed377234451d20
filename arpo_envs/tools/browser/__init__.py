"""A text browser whose state is pure data.

`sources.py` says where pages come from (`world_site.py`: the built-in world, `folder_site.py`: files, `live_site.py`: the live
web, by way of `http/`; `searched_by.py` lets a search engine find them, `blocked_site.py` leaves domains out), `html.py` turns
what it finds into lines with numbered links (`page.py`), or `readable.py` only the text, in a process of its own if need be
(`conversion.py`), `recorded.py` lets a recording answer instead of a source, `display.py` shows them, `state.py` remembers
what was shown, and `tool.py` offers it all as `browser.search`, `browser.open` and `browser.find`.
"""

from .blocked_site import BlockedSite
from .conversion import read
from .folder_site import FolderSite
from .live_site import LiveSite
from .page import Page
from .recorded import asked_through, forked, is_replayed, placed, reseed
from .searched_by import SearchedBy
from .sources import Document, Hit, PageError, PageSource
from .specs import CITING
from .tool import BrowserSession, BrowserTool
from .world_site import WorldSite

__all__ = [
    "CITING",
    "BlockedSite",
    "BrowserSession",
    "BrowserTool",
    "Document",
    "FolderSite",
    "Hit",
    "LiveSite",
    "Page",
    "PageError",
    "PageSource",
    "SearchedBy",
    "WorldSite",
    "asked_through",
    "forked",
    "is_replayed",
    "placed",
    "read",
    "reseed",
]
