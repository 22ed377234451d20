"""An episode in which nothing is done for several turns ends, whatever the environment would still allow."""

from typing import Any

import pytest
from rollout_toys import Coin, CountEnv, CountTool, Plan, grow, results, statuses

from algorithms import Limits
from algorithms.evaluation import attempts_of
from algorithms.metrics import summarise
from algorithms.tree import RolloutTree, Status
from arpo_envs import ConfigError


def scripted(*turns: str, **options: Any) -> RolloutTree:
    """Returns the tree of a policy that writes these actions one after another."""
    plan = options.pop("plan", Plan(rollouts=1))
    (tree,) = grow(plan=plan, script=lambda before, seed: turns[min(results(before), len(turns) - 1)], **options)
    return tree


def acted(tree: RolloutTree, leaf: int) -> int:
    return sum(tree.nodes[index].kind == "action" for index, _ in tree.path(leaf))


IDLE, WRONG, CALL, ANSWER = "hm", "<cuont>x</cuont>", "<count>x</count>", "<answer>1</answer>"


def test_three_idle_turns_end_an_episode_that_earns_what_no_answer_earns() -> None:
    tree = scripted(IDLE, env=lambda: Measuring(CountTool()))
    (leaf,) = tree.leaves()
    end = tree.nodes[leaf]
    assert (statuses(tree), acted(tree, leaf), end.text) == ([Status.STALLED], 3, IDLE)
    assert (tree.total_reward(leaf), end.measures) == (-1.0, {"turns": 3.0})
    assert summarise([tree])["stalled"] == 1.0
    (attempt,) = attempts_of([tree])
    assert (attempt.status, attempt.truncated, attempt.success, attempt.malformed) == ("stalled", True, 0.0, 3)


class Measuring(CountEnv):
    def measures(self) -> dict[str, float]:
        return {"turns": float(self._turn)}


@pytest.mark.parametrize(
    ("turns", "status", "actions"),
    [
        ((IDLE, WRONG, ""), Status.STALLED, 3),
        ((IDLE, IDLE, CALL, IDLE, IDLE, ANSWER), Status.ANSWERED, 6),
        ((IDLE, IDLE, ANSWER), Status.ANSWERED, 3),
        ((CALL, IDLE, IDLE, IDLE), Status.STALLED, 4),
    ],
)
def test_only_turns_in_a_row_count(turns: tuple[str, ...], status: Status, actions: int) -> None:
    tree = scripted(*turns)
    assert statuses(tree) == [status]
    assert acted(tree, tree.leaves()[0]) == actions


def test_a_call_that_is_refused_is_not_idle() -> None:
    tree = scripted(CALL, env=lambda: CountEnv(max_tool_calls=1, max_turns=6))
    assert statuses(tree) == [Status.TRUNCATED]


@pytest.mark.parametrize(("idle_turns", "status", "actions"), [(0, "truncated", 12), (1, "stalled", 1), (5, "stalled", 5)])
def test_the_limit_can_be_chosen(idle_turns: int, status: str, actions: int) -> None:
    tree = scripted(IDLE, idle_turns=idle_turns)
    assert statuses(tree) == [status]
    assert acted(tree, tree.leaves()[0]) == actions


def test_the_environments_own_end_comes_first() -> None:
    assert statuses(scripted(IDLE, env=lambda: CountEnv(max_turns=3))) == [Status.TRUNCATED]


def test_forks_go_on_counting_from_where_they_began() -> None:
    tree = scripted(CALL, IDLE, IDLE, IDLE, plan=Plan(Coin(1, 1.0), 3))
    assert statuses(tree) == [Status.STALLED] * 3
    assert {acted(tree, leaf) for leaf in tree.leaves()} == {4}


def test_a_number_below_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="idle_turns must be at least 1, or 0 for no limit, got -1"):
        Limits(idle_turns=-1)
