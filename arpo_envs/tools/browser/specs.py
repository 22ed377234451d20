"""What the model is told about the browser's functions."""

from ..spec import ToolSpec

_CURSOR = {
    "type": "integer",
    "default": -1,
    "description": "the number in brackets before a view, -1 for the last one",
}

SEARCH = ToolSpec(
    "browser.search",
    "Searches for pages and shows links to them.",
    {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "what to look for"},
            "topn": {"type": "integer", "default": 10, "description": "how many results"},
        },
        "required": ["query"],
    },
)
OPEN = ToolSpec(
    "browser.open",
    "Opens the link with that id, shown as 【id†text】, or a URL; without an id, shows more of a page that was opened.",
    {
        "type": "object",
        "properties": {
            "id": {"anyOf": [{"type": "integer"}, {"type": "string"}], "description": "a link's id, or a URL as a string"},
            "cursor": {
                **_CURSOR,
                "description": "which view the link or page is from: the number in brackets before it, -1 for the last",
            },
            "loc": {"type": "integer", "default": -1, "description": "the first line to show, -1 for the top"},
            "num_lines": {"type": "integer", "default": -1, "description": "how many lines, -1 for one screen"},
            "view_source": {"type": "boolean", "default": False, "description": "whether to show the HTML instead"},
        },
    },
    examples=({}, {"id": 0}, {"loc": 1, "num_lines": 2}, {"id": 1, "cursor": 0}),
)
FIND = ToolSpec(
    "browser.find",
    "Shows where a text occurs in a page.",
    {
        "type": "object",
        "properties": {
            "pattern": {"type": "string", "description": "exact text; case does not matter"},
            "cursor": _CURSOR,
        },
        "required": ["pattern"],
    },
)
BACK = ToolSpec("browser.back", "Shows the page that was shown before this one.", {"type": "object", "properties": {}})

CITING = "Cite what you read as 【cursor†L3】 or 【cursor†L3-L5】, with the number in brackets before the view."
"""How a model refers to lines that it was shown."""
