"""The run's page: trees and curves of a run in one HTML file that needs no network.

`records.py` turns a tree into what the page reads, `document.py` writes the file, `assets/` has the page's own code, which
asks a source for its data: here the file itself.
"""

from .document import BYTES, Page, block, write_page
from .records import outcome, record, summary
from .selection import spread

__all__ = ["BYTES", "Page", "block", "outcome", "record", "spread", "summary", "write_page"]
