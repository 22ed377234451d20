"""Chat models: their templates, probed once with dummy conversations, and never asked to render history."""

from .renderer import ChatRenderer

__all__ = ["ChatRenderer"]
