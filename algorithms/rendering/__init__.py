"""Rendering: the only place where text meets tokens.

`renderer.py` says what a renderer is; `text.py` renders for models without a chat template, `chat/` for those with one;
`spelling.py` makes sure that outside text contains none of the model's marks.
"""

from .renderer import REWRITES, Encoded, Renderer
from .text import CUT_MARK, ScriptedRenderer, TextRenderer, closing_mark, require_dialect

__all__ = [
    "CUT_MARK",
    "REWRITES",
    "Encoded",
    "Renderer",
    "ScriptedRenderer",
    "TextRenderer",
    "closing_mark",
    "require_dialect",
]
