"""Chat models: their templates, asked once about dummy conversations, and never again about history."""

from .renderer import ChatRenderer

__all__ = ["ChatRenderer"]
