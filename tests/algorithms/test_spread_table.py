"""The table of `alpha="auto"` in docs/concepts.md is what its 48 trees say, grown again."""

from dataclasses import dataclass
from statistics import mean
from typing import Any

import pytest
from pages import ROOT
from rollout_toys import CountEnv, Plan, calls_then_answer, grow
from test_spread import CALLS, wavering

from algorithms import make
from algorithms.branching.adaptation import Adaptation
from algorithms.metrics import fork_depths
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.tree import RolloutTree

ROLLOUTS, ROOTS, TREES = 16, 8, 48
LEARNT_FROM = 256 // ROOTS
"""Prompts of the first step, whose roots are as many as a strategy remembers."""
COLUMNS = {"1": (1, 1), "2": (2, 2), "3-4": (3, 4), "5-8": (5, 8), "9-12": (9, 12), "13-16": (13, 16), "17-20": (17, 20)}


@dataclass(frozen=True)
class Row:
    """A line of the table: an algorithm, and where its strategy keeps the base probability."""

    algorithm: str
    base: str
    options: dict[str, Any]


ROWS = {
    "`arpo`": Row("arpo", "rule.alpha", {"probe": 3}),
    "`arpo`, auto": Row("arpo", "alpha", {"probe": 3, "alpha": "auto"}),
    "`random_branching`": Row("random_branching", "probability", {}),
    "`random_branching`, auto": Row("random_branching", "alpha", {"probability": "auto"}),
}


def table() -> dict[str, list[str]]:
    """Returns the cells of each line, by the first."""
    page = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in page.splitlines() if line.startswith("| ")]
    head = next(i for i, cells in enumerate(lines) if cells[:2] == ["algorithm", "α"])
    assert lines[head][2:-3] == list(COLUMNS)
    return {name: cells for name, *cells in lines[head + 1 : head + 1 + len(ROWS)]}


def step(branching: Any, number: int, prompts: int) -> tuple[list[RolloutTree], int]:
    """Returns the trees of a step, and how many tokens their policy knows."""
    policy = ScriptedPolicy(calls_then_answer(CALLS), wavering)
    plan = Plan(branching, ROLLOUTS)
    env = lambda: CountEnv(max_turns=CALLS + 5, max_tool_calls=CALLS + 5)  # noqa: E731
    return grow(plan=plan, script=policy, prompts=prompts, step=number, env=env), policy.vocabulary_size


def measured(row: Row) -> list[str]:
    """Returns the cells that the trees of the second step give, where a strategy that adapts knows the first one."""
    branching: Any = make(row.algorithm, rollouts=ROLLOUTS, roots=ROOTS, **row.options).branching
    if "auto" in row.options.values():
        adaptation = Adaptation()
        adaptation.remember(branching, *step(branching, 0, LEARNT_FROM))
        branching = adaptation.adapted(branching, ROLLOUTS)
    base: Any = branching
    for name in row.base.split("."):
        base = getattr(base, name)
    trees, _ = step(branching, 1, TREES)
    depths, calls = fork_depths(trees), [tree.tool_calls() for tree in trees]
    return [
        f"{base:.2g}".replace("-", "−"),
        *(str(sum(first <= depth <= last for depth in depths)) for first, last in COLUMNS.values()),
        f"{len(depths) / TREES:.1f}",
        f"{mean(one.executed for one in calls):.1f}",
        f"{mean(one.inherited for one in calls):.1f}",
    ]


def test_the_lines_of_the_table_add_up() -> None:
    """Each path ends after twenty calls, executed or inherited, and each fork of a prompt is one column's."""
    found = table()
    assert found.keys() == ROWS.keys()
    for name, (_, *forks, per_prompt, executed, inherited) in found.items():
        assert f"{sum(map(int, forks)) / TREES:.1f}" == per_prompt, name
        assert float(executed) + float(inherited) == pytest.approx(ROLLOUTS * CALLS), name
    assert [found[name][0] for name in ROWS if "auto" not in name] == ["0.5", "0.5"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_the_trees_grown_again_are_those_of_the_table(name: str) -> None:
    assert measured(ROWS[name]) == table()[name]
