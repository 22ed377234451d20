"""One self-contained HTML file: the page's code, and its data in compressed blocks that are text to the browser."""

import base64
import hashlib
import html
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ...durable import write_parts
from ...metrics import as_json

BYTES = 40_000_000
"""How large a page may be."""
_SCRIPTS = ("source", "dom", "model", "chart", "prompts", "drawing", "tokens", "siblings", "details", "keyboard", "main")
_IMPORT, _EXPORT = re.compile(r"^import .*;\n", re.MULTILINE), re.compile(r"^export ", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """What a page holds.

    Args:
        title: of the run.
        metrics: of each step.
        prompts: a line for each tree, see `summary`, with its step and its number there.
        blocks: each tree as `block` writes its `record`; in the order of `prompts`.
        vocabulary: text of each token that occurs, by its id; None if no tokenizer was found.
        selection: which trees of the run these are, in words.
    """

    title: str
    metrics: Sequence[Mapping[str, Any]]
    prompts: Sequence[Mapping[str, Any]]
    blocks: Sequence[str]
    vocabulary: Mapping[int, str] | None
    selection: str


def block(value: Any) -> str:
    """Returns a value as JSON, deflated, in base64: letters that mean nothing in HTML.

    >>> "<" in block("</script>")
    False
    """
    written = json.dumps(as_json(value), separators=(",", ":"), ensure_ascii=True)
    return base64.b64encode(zlib.compress(written.encode("ascii"))).decode("ascii")


def write_page(page: Page, file: Path) -> None:
    """Writes a page, whole or not at all; its policy lets its own code run and nothing else, and allows no request.

    Raises:
        OSError: the file cannot be written.
    """
    write_parts(file, _parts(page))


def _parts(page: Page) -> Iterator[str]:
    style, script = _asset("page.css"), _script()
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; base-uri 'none'; form-action 'none'"
    )
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" content="no-referrer">\n'
    yield f"<title>{html.escape(page.title)} · arpo</title>\n<style>{style}</style>\n</head>\n<body>\n"
    yield '<noscript>This page needs JavaScript; nothing in it leaves your computer.</noscript>\n<div id="page"></div>\n'
    index = {"title": page.title, "selection": page.selection, "metrics": page.metrics, "prompts": page.prompts}
    yield _data("index", block(index))
    yield _data("vocabulary", block(page.vocabulary))
    yield f"<script>{script}</script>\n"  # before the trees, so that people see something while they are read
    for number, one in enumerate(page.blocks):
        yield _data(f"tree-{number}", one)
    yield "</body>\n</html>\n"


def _data(name: str, written: str) -> str:
    return f'<script type="application/octet-stream" id="{name}">{written}</script>\n'


def _source(text: str) -> str:
    """Returns how a content-security policy names a text that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _script() -> str:
    """Returns the page's modules as one script in one scope: a module in the document itself would wait for all trees."""
    parts = [_EXPORT.sub("", _IMPORT.sub("", _asset(f"{name}.js"))) for name in _SCRIPTS]
    return '"use strict";\n{\n' + "\n".join(parts) + "}\n"
