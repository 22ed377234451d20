"""The kit judges Atari: it passes through a thin adapter, adapters that lose or share state fail, and so does `EzPickle`."""

from collections.abc import Iterator

import gymnasium as gym
import pytest
from atari_adapter import Atari, Declared, EmulatorDice, OtherDice, Unrestored, UnsavedDice, begun, emulator
from gymnasium.wrappers import TimeLimit

from arpo_envs import NotForkable, clone
from arpo_envs.testing import ConformanceError, Law, Report, check_forkable_env

BUTTONS = [[2, 3, 0, 3, 2, 2, 3, 3, 2, 2, 3, 3], [3, 3, 2, 1, 2, 2, 3, 3]]


@pytest.fixture(scope="module", autouse=True)
def _emulators() -> Iterator[None]:
    yield
    begun.cache_clear()
    emulator.cache_clear()


def judged(kind: type[gym.Env]) -> Report:
    return check_forkable_env(lambda: TimeLimit(kind(), 10), actions=BUTTONS, seeds=(0,), raise_on_fail=False)


def test_it_passes_through_clone_state_and_restore_state() -> None:
    report = judged(Atari)
    assert report.ok, str(report)
    assert set(report.skipped) == {Law.TIMEOUT, Law.SECRETS}  # which are about tools


@pytest.mark.parametrize(
    ("kind", "sound", "broken"),
    [
        pytest.param(Unrestored, Law.FAITHFUL, Law.INDEPENDENT, id="shared state"),
        pytest.param(OtherDice, Law.RESEED, Law.FAITHFUL, id="other random state"),
        pytest.param(EmulatorDice, Law.REPEATS, Law.INDEPENDENT, id="a button that is not saved"),
        pytest.param(UnsavedDice, Law.FAITHFUL, Law.REPEATS, id="random state that is not saved"),
    ],
)
def test_what_only_seems_to_be_copied_fails(kind: type[gym.Env], sound: Law, broken: Law) -> None:
    """The law that is broken is named, and not one that holds."""
    report = judged(kind)
    assert broken in report.failed, str(report)
    assert sound in report.passed, str(report)


def test_what_inherits_ezpickle_is_refused_by_name() -> None:
    """A copy of it would be a console that was just switched on."""
    refusal = r"Declared inherits gymnasium\.utils\.EzPickle"
    with pytest.raises(NotForkable, match=refusal):
        clone(Declared())
    report = judged(Declared)
    assert report.failed == (Law.LEVEL,)
    with pytest.raises(ConformanceError, match=refusal):
        report.raise_on_failure()
