"""Pages of small runs, and what a browser's parser finds in one."""

import base64
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from threading import Thread
from typing import Any

from algorithms.cli import main
from algorithms.cli.view import ViewConfig, serving
from algorithms.cli.viewer import PageServer
from algorithms.cli.watched import Watched
from algorithms.tracking.trees import read_trees, write_trees
from algorithms.tree import RolloutTree

GOLDEN = Path(__file__).parents[1] / "golden" / "arpo.jsonl"
HOSTILE = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<!--", "]]>", "'\"", "\u202e\x1b[2J"]


class Document(HTMLParser):
    """What a browser would find in a page: its tags, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None], str]] = []
        self.is_open = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes), ""))
        self.is_open = True

    def handle_endtag(self, tag: str) -> None:
        self.is_open = False

    def handle_data(self, data: str) -> None:
        if self.is_open:
            tag, attributes, before = self.tags[-1]
            self.tags[-1] = tag, attributes, before + data

    def data(self, name: str) -> Any:
        (written,) = [text for _, attributes, text in self.tags if attributes.get("id") == name]
        return json.loads(zlib.decompress(base64.b64decode(written)))

    def texts(self, tag: str) -> list[str]:
        return [text for name, attributes, text in self.tags if name == tag and "type" not in attributes]


def reported(folder: Path, trees: list[RolloutTree], *words: str) -> str:
    write_trees(folder / "trees.jsonl.zst", trees)
    (folder / "metrics.jsonl").write_text('{"step": 0, "success": 0.5}\n{"step": 1, "success": null}\n{"step', encoding="utf-8")
    assert main(["report", str(folder), "--output", str(folder / "page.html"), *words]) == 0
    return (folder / "page.html").read_text(encoding="utf-8")


@contextmanager
def viewed(run: Path, **options: Any) -> Iterator[PageServer[Watched]]:
    """Gives a server of a run's page, which answers."""
    with serving(ViewConfig(run, port=0, **options)) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def trees(count: int = 4) -> list[RolloutTree]:
    first = next(read_trees(GOLDEN)).freeze()
    return [RolloutTree(f"task-{i}", {"step": i // 2}, first.nodes, frozen=True) for i in range(count)]


def hostile_tree() -> RolloutTree:
    tree = trees(1)[0]
    text = "".join(HOSTILE)
    nodes = [replace(node, text=text, fault=text, tool=text, tool_status=text) for node in tree.nodes]
    return RolloutTree(text, {"step": 0}, nodes, frozen=True)
