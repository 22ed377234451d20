"""Optional members: each is on the page, is declared once, and is asked for through its declaration."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import gymnasium as gym
import pytest

from arpo_envs.members import Member

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "optional-members.md"
CODE = [path for package in ("arpo_envs", "wrappers", "algorithms") for path in sorted((ROOT / package).rglob("*.py"))]
ASKED = ("getattr", "hasattr", "has_wrapper_attr", "get_wrapper_attr")
SURE = {"dialect", "tool_specs", "task", "instructions"}
"""What a `ToolEnv` always has; where nothing else will do, it is asked for as such."""


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Returns a file's calls, and what declares a name with its type."""
    code = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return tuple(node for node in code if isinstance(node, ast.Call | ast.AnnAssign))


def called(node: ast.Call) -> str:
    """Returns the last part of the name of what is called; "" for what has none."""
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def declared() -> Iterator[tuple[str, bool]]:
    """Yields the name of every member, and whether it is a method."""
    for path in CODE:
        for node in nodes(path):
            made = node.value if isinstance(node, ast.AnnAssign) else None
            if isinstance(made, ast.Call) and called(made) == "Member":
                yield ast.literal_eval(made.args[0]), any(word.arg == "method" for word in made.keywords)


def test_the_page_lists_every_member() -> None:
    listed = re.findall(r"^\| `(\w+)(\(\))?` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted((name, bool(method)) for name, method in listed) == sorted(declared())
    assert len(listed) > 20


def test_nobody_asks_for_one_in_another_way() -> None:
    names = {name for name, _ in declared()}
    others = []
    for path in CODE:
        for node in nodes(path):
            if isinstance(node, ast.Call) and called(node) in ASKED:
                words = {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
                if found := words & names - (SURE if "get_wrapper_attr" in ast.unparse(node.func) else set()):
                    others.append((path.relative_to(ROOT).as_posix(), node.lineno, *found))
    assert others == []


def usual() -> str:
    return "usual"


class Has:
    limit = 3

    def name(self) -> str:
        return "own"


def test_what_is_there_counts_and_what_is_not_is_as_usual() -> None:
    assert Member("limit", 7).of(Has()) == 3
    assert Member("limit", 7).of(object()) == 7
    assert Member("name", usual, method=True).of(Has())() == "own"
    assert Member("name", usual, method=True).of(object())() == "usual"
    assert Member("limit", usual, method=True).of(Has())() == "usual", "a number is no method"


@pytest.mark.parametrize(("layer", "found"), [("wrapper", 1), ("env", 2), ("", 7)])
def test_the_outermost_layer_that_has_it_counts(layer: str, found: int) -> None:
    env = gym.Env()
    wrapper = gym.Wrapper(env)
    if layer:
        env.limit = 2  # type: ignore[attr-defined]
    if layer == "wrapper":
        wrapper.limit = 1  # type: ignore[attr-defined]
    assert Member("limit", 7).through(wrapper) == found
