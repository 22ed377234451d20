"""Every law of `check_tool` bites, and healthy tools pass."""

import random
from dataclasses import replace
from typing import Any

import pytest
from tool_faults import TOOL_FAULTS, clean_up
from toys import ECHO, DicelessNote, Echo, Note

from arpo_envs.dialects import make_dialect
from arpo_envs.forking import ForkLevel
from arpo_envs.testing import Law, check_tool
from arpo_envs.testing.probing import generators
from arpo_envs.tools import Stateless, ToolResult, ToolSpec


@pytest.fixture(autouse=True)
def _cleaned_up(monkeypatch):
    monkeypatch.setattr("arpo_envs.testing.probing.SETTLING", 0.2)  # what leaks here never ends
    yield
    clean_up()


@pytest.mark.parametrize(("law", "tool"), TOOL_FAULTS, ids=lambda value: value.name if isinstance(value, Law) else "")
def test_tool_law_bites(law, tool):
    report = check_tool(tool, raise_on_fail=False)
    assert law in report.failed, str(report)


@pytest.mark.parametrize("tool", [Echo(), Note(), DicelessNote()])
def test_healthy_tools_pass(tool):
    assert check_tool(tool).ok


CODE = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}


def test_examples_are_called_and_nobody_else_sees_them():
    """A word is no program: without its examples such a tool would be called, and nothing would be checked."""

    class Shared(Stateless):
        specs = (ToolSpec("count", "Counts.", CODE, examples=({"code": "count"},)),)

        def __init__(self) -> None:
            self.counted = 0

        def call(self, name: str, arguments: Any, *, timeout: float) -> ToolResult:
            self.counted += arguments["code"] == "count"
            return ToolResult(str(self.counted))

    report = check_tool(Shared(), raise_on_fail=False)
    assert report.failed == (Law.REPRODUCIBLE,), str(report)
    (spec,) = Shared.specs
    assert "examples" not in str(spec.function())
    for dialect in ("tags", "json"):
        assert (
            make_dialect(dialect, Shared.specs).instructions()
            == make_dialect(dialect, (replace(spec, examples=()),)).instructions()
        )


def test_an_example_that_could_not_be_called_is_found():
    class Wrong(Echo):
        specs = (ToolSpec("echo", "Says it back.", ECHO.parameters, examples=({"words": "hello"},)),)

    report = check_tool(Wrong(), calls=[("echo", {"text": "one"})], raise_on_fail=False)
    assert report.failed == (Law.SPECS,)
    assert "echo needs the argument 'text'" in report.findings[0].happened


def test_a_tool_that_cannot_fork_is_checked_for_the_rest():
    class Fixed(Note):
        fork_level = ForkLevel.NONE

    report = check_tool(Fixed())
    assert report.ok
    assert {Law.FAITHFUL, Law.UNTOUCHED, Law.INDEPENDENT, Law.RESEED, Law.CLOSE, Law.TIMEOUT} == set(report.skipped)


def test_a_module_that_a_tool_holds_is_not_its_state():
    class Holder(Echo):
        def __init__(self):
            self.module, self.own = random, random.Random(1)

    assert list(generators(Holder())) == ["Holder.own"]
