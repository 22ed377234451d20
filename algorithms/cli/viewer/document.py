"""The page's document: it holds its data, in compressed blocks that are text to the browser, or asks its server for it."""

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
_SCRIPTS = ("dom", "model", "run", "chart", "prompts", "drawing", "tokens", "siblings", "details", "keyboard", "main")
_END = "</body>\n</html>\n"
_IMPORT, _EXPORT = re.compile(r"^import .*;\n", re.MULTILINE), re.compile(r"^export ", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """What a page holds.

    Args:
        title: of the run.
        metrics: of each step.
        prompts: a line for each tree, see `summary`, with its step, its "prompt" there, and the "number" of its block.
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
    return base64.b64encode(zlib.compress(written(value).encode("ascii"))).decode("ascii")


def written(value: Any) -> str:
    r"""Returns a value as JSON in ASCII, without spaces; numbers that JSON does not have become null.

    >>> written({"loss": float("nan"), "name": "Köln"})
    '{"loss":null,"name":"K\\u00f6ln"}'
    """
    compact = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
    try:
        return compact.encode(value)
    except (TypeError, ValueError):  # seldom; to look for them in every tree would take longer than all the rest
        return compact.encode(as_json(value))


def write_page(page: Page, file: Path) -> None:
    """Writes a page, whole or not at all; its policy lets its own code run and nothing else, and allows no request.

    Raises:
        OSError: the file cannot be written.
    """
    write_parts(file, _parts(page))


def served_document(title: str) -> tuple[str, str]:
    """Returns the document that asks the server it came from for its data, and its policy, which allows nothing else."""
    script, style = _script("served"), _asset("page.css")
    policy = _policy(script, style, "connect-src 'self'")
    return "".join((*_head(title, policy, style), _run(script), _END)), f"{policy}; frame-ancestors 'none'"


def _parts(page: Page) -> Iterator[str]:
    script, style = _script("embedded"), _asset("page.css")
    yield from _head(page.title, _policy(script, style), style)
    index = {"title": page.title, "selection": page.selection, "metrics": page.metrics, "prompts": page.prompts}
    yield _data("index", block(index))
    yield _data("vocabulary", block(page.vocabulary))
    yield _run(script)  # before the trees, so that people see something while they are read
    for number, one in enumerate(page.blocks):
        yield _data(f"tree-{number}", one)
    yield _END


def _head(title: str, policy: str, style: str) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" content="no-referrer">\n'
    readable = title.encode("utf-8", "backslashreplace").decode("utf-8")  # a folder's name may be no text
    yield f"<title>{html.escape(readable)} · arpo</title>\n<style>{style}</style>\n</head>\n<body>\n"
    yield '<noscript>This page needs JavaScript; nothing in it leaves your computer.</noscript>\n<div id="page"></div>\n'


def _policy(script: str, style: str, *more: str) -> str:
    """Returns the content-security policy that lets one script and one style in."""
    allowed = ("default-src 'none'", f"script-src {_source(script)}", f"style-src {_source(style)}", *more)
    return "; ".join((*allowed, "base-uri 'none'", "form-action 'none'"))


def _run(script: str) -> str:
    return f"<script>{script}</script>\n"


def _data(name: str, written: str) -> str:
    return f'<script type="application/octet-stream" id="{name}">{written}</script>\n'


def _source(text: str) -> str:
    """Returns how a content-security policy names a text that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


def _script(source: str) -> str:
    """Returns the page's modules as one script in one scope: a module in the document itself would wait for all trees."""
    parts = [_EXPORT.sub("", _IMPORT.sub("", _asset(f"{name}.js"))) for name in (source, *_SCRIPTS)]
    return '"use strict";\n{\n' + "\n".join(parts) + f"start({source});\n}}\n"
