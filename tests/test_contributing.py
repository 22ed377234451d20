"""The page for newcomers: its links lead somewhere, and its letters are those of the code, each with one meaning."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from pages import ROOT, check_layout

PAGE = ROOT / "CONTRIBUTING.md"
_SHAPE = re.compile(r"[a-z]\w*_([A-Z0-9]*[A-Z][A-Z0-9]*)")


def legend() -> list[str]:
    return re.findall(r"^\| ([A-Z]) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def axes(code: str) -> Iterator[str]:
    """Yields the letters behind the names of a piece of code."""
    for node in ast.walk(ast.parse(code)):
        for name in (getattr(node, field, None) for field in ("id", "arg", "attr")):
            if isinstance(name, str) and (shape := _SHAPE.fullmatch(name)):
                yield from (letter for letter in shape[1] if letter.isalpha())


def used() -> dict[str, set[Path]]:
    found: dict[str, set[Path]] = {}
    for package in ("arpo_envs", "wrappers", "algorithms"):
        for path in (ROOT / package).rglob("*.py"):
            for letter in axes(path.read_text(encoding="utf-8")):
                found.setdefault(letter, set()).add(path.relative_to(ROOT))
    return found


def test_layout() -> None:
    check_layout(PAGE)


def test_every_letter_of_a_shape_is_explained_once_and_none_is_made_up() -> None:
    letters = legend()
    assert letters == sorted(set(letters))
    found = used()
    assert {letter: found[letter] for letter in found if letter not in letters} == {}
    assert set(letters) == found.keys()


def test_letters_are_found_where_they_stand() -> None:
    assert list(axes("def f(logp_BT, rows): self.ids_1N = LIMIT_X + x86_64")) == ["B", "T", "N"]
    assert list(axes("r_1 = total_R")) == ["R"]
