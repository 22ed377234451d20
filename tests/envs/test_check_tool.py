"""Every law of `check_tool` bites, and healthy tools pass."""

import pytest
from tool_faults import TOOL_FAULTS, clean_up
from toys import DicelessNote, Echo, Note

from arpo_envs.forking import ForkLevel
from arpo_envs.testing import Law, check_tool


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


def test_a_tool_that_cannot_fork_is_checked_for_the_rest():
    class Fixed(Note):
        fork_level = ForkLevel.NONE

    report = check_tool(Fixed())
    assert report.ok
    assert {Law.INDEPENDENT, Law.RESEED, Law.CLOSE} == set(report.skipped)
