"""A text browser whose state is pure data.

`sources.py` says where pages come from, `html.py` turns what it finds into lines with numbered links (`page.py`), `display.py`
shows them, `state.py` remembers what was shown, and `tool.py` offers it all as `browser.search`, `browser.open` and
`browser.find`.
"""

from .sources import Document, Hit, PageError, PageSource
from .specs import CITING
from .tool import BrowserTool

__all__ = ["CITING", "BrowserTool", "Document", "Hit", "PageError", "PageSource"]
