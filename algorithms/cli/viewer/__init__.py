"""The run's page: trees and curves of a run, in one HTML file that needs no network or from a server on this machine.

`records.py` turns a tree into what the page reads, `document.py` writes the page, `server.py` answers it, `assets/` has the
page's own code, which asks a source for its data: the file itself, or the server.
"""

from .document import BYTES, Page, block, write_page
from .records import outcome, record, summary
from .selection import spread
from .server import PageServer, Run

__all__ = ["BYTES", "Page", "PageServer", "Run", "block", "outcome", "record", "spread", "summary", "write_page"]
