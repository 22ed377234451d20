"""Questions that are answered by following links; `graph.py` counts clicks, `world.py` asks about the built-in site."""

from .graph import fewest_clicks
from .world import LinkedQuestions

__all__ = ["LinkedQuestions", "fewest_clicks"]
