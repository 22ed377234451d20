"""Questions that need a search, pages and a computation: numbers are found on pages, and the answer is computed from them.

`readings.py` says which numbers the pages of a world state and how each is reached, `computing.py` what is asked of them, and
`source.py` asks.
"""

from .source import DeepQuestions

__all__ = ["DeepQuestions"]
