"""Rendering: the only place where text meets tokens.

`text.py` renders for models without a chat template, `chat/` for those with one; `spelling.py` makes sure that outside
text contains none of the model's marks.
"""

from .text import CUT_MARK, Encoded, Renderer, ScriptedRenderer, TextRenderer, check_dialect, closing_mark

__all__ = [
    "CUT_MARK",
    "Encoded",
    "Renderer",
    "ScriptedRenderer",
    "TextRenderer",
    "check_dialect",
    "closing_mark",
]
