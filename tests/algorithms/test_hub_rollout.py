"""Trees grown in others' environments: what is executed and what is replayed is counted apart, and cheats are refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hub_toys import Clock, Dice, GlobalDice, Locked, OneTable
from rollout_toys import Coin, Plan, grow, statuses

from algorithms.tree import Status
from arpo_envs import NotForkable, NotRepeatable
from arpo_envs.hubs.forkable import forkable
from arpo_envs.hubs.replayed import replayed


def throws(count: int) -> Callable[[str, int], str]:
    """Throws so often, then stops."""
    return lambda before, seed: "throw" if before.count("]") <= count else "stop"


def counted(kind: type[Dice]) -> tuple[type[Dice], list[str]]:
    """Returns the game, and a list of every step that any of its kind takes."""
    taken: list[str] = []

    class Counted(kind):  # type: ignore[valid-type,misc]
        def step(self, action: str) -> Any:
            taken.append(action)
            return super().step(action)

    return Counted, taken


@pytest.mark.parametrize("mode", ["deterministic", "free"])
def test_executed_and_replayed_steps_are_counted_apart(mode: str) -> None:
    kind, taken = counted(Locked)
    (tree,) = grow(plan=Plan(Coin(1, 1.0, 1), 4), script=throws(3), env=lambda: replayed(kind), mode=mode)
    calls = tree.tool_calls()
    assert statuses(tree) == [Status.ANSWERED] * 4
    assert calls.replayed > 0
    assert calls.inherited > 0
    assert calls.executed + calls.replayed == len(taken)
    forks = [n for n in tree.nodes if n.origin == "branch"]
    assert [n.replayed for n in forks] == [tree.depth(i) for i, n in enumerate(tree.nodes) if n.origin == "branch"]


def test_a_parked_state_is_not_rebuilt_before_something_grows_there() -> None:
    kind, taken = counted(Locked)
    (tree,) = grow(plan=Plan(replace(Coin(2, 0.0), keeps="action"), 2), script=throws(3), env=lambda: replayed(kind))
    assert tree.tool_calls().executed == len(taken)
    assert tree.tool_calls().replayed == 0


def test_a_copied_game_replays_nothing() -> None:
    make_env = forkable(Dice, actions=[["throw"] * 3 + ["stop"]])
    (tree,) = grow(plan=Plan(Coin(1, 1.0, 1), 4), script=throws(3), env=make_env)
    assert (tree.tool_calls().replayed, statuses(tree)) == (0, [Status.ANSWERED] * 4)


@pytest.mark.parametrize("kind", [Clock, OneTable])
def test_what_does_not_repeat_ends_the_run_by_name(kind: type[Dice]) -> None:
    with pytest.raises(NotRepeatable, match=f"{kind.__name__} does not repeat"):
        grow(plan=Plan(Coin(1, 1.0, 1), 4), script=throws(3), env=lambda: replayed(kind))


def test_what_shares_a_generator_is_refused_before_the_run() -> None:
    with pytest.raises(NotForkable, match="GlobalDice can be forked neither"):
        forkable(GlobalDice, actions=[["throw"] * 4])
