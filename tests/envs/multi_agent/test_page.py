"""What the page on several agents shows is what happens."""

import types
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "multi-agent.md"


def test_the_game_on_the_page_is_played() -> None:
    fences = PAGE.read_text(encoding="utf-8").split("```")
    played = next(block.removeprefix("python\n") for block in fences if block.startswith("python\n"))
    shown = next(block.removeprefix("text\n") for block in fences if block.startswith("text\n"))
    module = types.ModuleType("page")
    exec(played, vars(module))  # noqa: S102
    assert shown.splitlines() == [line.rstrip() for step in module.game for line in step.split("\n")]
