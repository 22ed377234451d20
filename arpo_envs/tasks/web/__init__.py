"""Questions that are answered by following links.

`graph.py` counts clicks and `world.py` asks about the built-in site; `crawl.py` reads any other web, `cloze.py` finds sentences
in it that can be asked for, and `generated.py` asks.
"""

from .crawl import Web, crawl
from .generated import WebQuestions
from .graph import fewest_clicks
from .world import LinkedQuestions

__all__ = ["LinkedQuestions", "Web", "WebQuestions", "crawl", "fewest_clicks"]
