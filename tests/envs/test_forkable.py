"""At which level an environment forks is found out, not claimed."""

import gymnasium as gym
import pytest
from hub_toys import Clock, Dice, Ez, GlobalDice, Locked, OneTable

from arpo_envs import ForkLevel, NotForkable, clone
from arpo_envs.hubs.copied import copied
from arpo_envs.hubs.forkable import forkable
from arpo_envs.testing import Law, check_forkable_env

ACTIONS = [["throw"] * 4 + ["stop"], ["throw"] * 6]


@pytest.mark.parametrize(
    ("kind", "level"),
    [(Dice, ForkLevel.EXACT), (Locked, ForkLevel.REPLAY), (Ez, ForkLevel.REPLAY)],
    ids=["copied", "holds a lock", "EzPickle"],
)
def test_the_highest_level_that_keeps_the_laws(kind: type[gym.Env], level: ForkLevel) -> None:
    make_env = forkable(kind, actions=ACTIONS)
    assert make_env.level is level
    with make_env() as env:
        env.reset(seed=1)
        env.step("throw")
        with clone(env) as twin:
            assert twin.step("throw") == env.step("throw")


@pytest.mark.parametrize("kind", [Clock, OneTable, GlobalDice])
def test_what_keeps_the_laws_in_neither_way_is_refused_by_name(kind: type[gym.Env]) -> None:
    with pytest.raises(NotForkable, match=f"{kind.__name__} can be forked neither by a deep copy nor by replaying"):
        forkable(kind, actions=ACTIONS)


def test_what_declares_its_level_and_keeps_it_stays_as_it_is() -> None:
    make_env = forkable(lambda: gym.make("ARPO/SearchMini-v0"))
    assert make_env.level is ForkLevel.EXACT
    assert not make_env.adopted


def test_only_some_laws_can_be_checked() -> None:
    report = check_forkable_env(
        lambda: copied(Ez), actions=ACTIONS, seeds=(0,), laws=[Law.NUMBERS, Law.FAITHFUL], raise_on_fail=False
    )
    assert (report.passed, report.failed) == ((Law.NUMBERS,), (Law.FAITHFUL,))


def test_a_copy_keeps_all_laws() -> None:
    report = check_forkable_env(lambda: copied(Dice), actions=ACTIONS, seeds=(0,))
    assert set(report.skipped) == {Law.TIMEOUT, Law.SECRETS}
