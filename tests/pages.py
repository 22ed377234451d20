"""Runs the code blocks of a Markdown page, in order: Python in one namespace, commands mostly in processes of their own."""

import re
import shlex
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest

from algorithms.cli import main
from algorithms.cli.bench import BENCHMARKS

ROOT = Path(__file__).parents[1]
LANGUAGES = frozenset({"python", "sh", "console", "text", "json", "bibtex"})
"""What a fence may be labelled; "text", "json" and "bibtex" are shown, not run."""

ELSEWHERE = {
    "hubs": frozenset({"Model Context Protocol", "verifiers", "OpenEnv", "NeMo-Gym"}),
    "hubs-inward": frozenset({"verifiers"}),
}
"""Sections, by page, whose blocks need packages that cannot be installed here: tests/hubs runs them."""

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")


@dataclass(frozen=True)
class Block:
    """A fenced block: its label, its text, the line of the page it starts on, and the section it is in."""

    language: str
    text: str
    line: int
    section: str

    @property
    def runs(self) -> bool:
        return self.language in ("python", "sh", "console")


def blocks(page: Path) -> list[Block]:
    content = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(content):
        above = content[: match.start(2)]
        section = ["", *_HEADING.findall(above)][-1]
        found.append(Block(match[1].strip(), match[2], above.count("\n") + 1, section))
    return found


def blocks_here(page: Path) -> list[Block]:
    """The blocks of a page that run with the packages of this environment."""
    return [block for block in blocks(page) if block.runs and block.section not in ELSEWHERE.get(page.stem, ())]


def commands(block: Block) -> list[list[str]]:
    """The commands of a shell block; in a "console" block those behind a prompt, for the rest is output."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_page(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, rehearse_here: bool = False) -> int:
    """Runs a page in `folder` and returns how many blocks ran; `make`, and what `make bench` runs, are left out.

    Args:
        page: with blocks.
        folder: where it runs.
        monkeypatch: takes back what it changes.
        rehearse_here: runs `arpo train --dry-run` in this process, which has torch already; for parts that are built in.
    """
    module = page_module(page, monkeypatch)
    monkeypatch.chdir(folder)
    for block in blocks_here(page):
        if block.language == "python":
            run_python(block, module, page)
        else:
            for words in commands(block):
                run_command(words, folder, page, here=rehearse_here and "--dry-run" in words)
    return len(blocks_here(page))


def page_module(page: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A namespace for the Python of a page: a real module, so that its classes pickle and resolve."""
    module = types.ModuleType(f"page_{page.stem.replace('-', '_').lower()}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def run_python(block: Block, module: types.ModuleType, page: Path) -> None:
    exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), vars(module))  # noqa: S102


def run_command(words: list[str], folder: Path, page: Path, *, here: bool = False) -> None:
    if words[0] == "make":
        return
    assert words[0] == "arpo", f"{page.name} has a command that no test knows how to run: {shlex.join(words)}"
    if words[1] == "bench" and words[3:] == ["--check"]:
        assert words[2] in BENCHMARKS, f"{page.name} names an unknown benchmark: {words[2]}"
        return
    if here:
        assert main(words[1:]) == 0, f"{page.name}: {shlex.join(words)}"
        return
    arpo = [sys.executable, "-m", "algorithms.cli", *words[1:]]
    done = subprocess.run(arpo, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{page.name}: {shlex.join(words)} exited with {done.returncode}\n{done.stdout}\n{done.stderr}"


def check_layout(page: Path) -> None:
    """Every fence is labelled with something known, and every relative link leads somewhere."""
    content = page.read_text(encoding="utf-8")
    assert content.count("\n```") % 2 == 0, f"{page.name}: a fence is not closed"
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page.name}, line {block.line}: unknown fence label {block.language!r}"
    for match in _LINK.finditer(content):
        target = (match[1] or match[2]).partition("#")[0]
        if target and not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"
