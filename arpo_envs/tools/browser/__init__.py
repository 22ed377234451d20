"""A text browser whose state is pure data.

`sources.py` says where pages come from (`world_site.py`: the built-in world, `folder_site.py`: files; `blocked_site.py` leaves
domains out), `html.py` turns what it finds into lines with numbered links (`page.py`), in a process of its own if need be
(`conversion.py`), `recorded.py` lets a recording answer instead of a source, `display.py` shows them, `state.py` remembers
what was shown, and `tool.py` offers it all as `browser.search`, `browser.open` and `browser.find`.
"""

from .blocked_site import BlockedSite
from .conversion import read
from .folder_site import FolderSite
from .page import Page
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
    "Page",
    "PageError",
    "PageSource",
    "WorldSite",
    "read",
]
