"""The kit judges TextWorld: a game passes through a thin adapter, and adapters that share or lose its state fail."""

import pytest
from gymnasium.wrappers import TimeLimit
from made_once import made_once
from textworld_adapter import BegunAgain, OneGame, TextGame, generated, needs_textworld

from arpo_envs.testing import Law, Report, check_forkable_env

pytestmark = needs_textworld

COMMANDS = [[0, 3, 4, 1, 0, 2], [1, 0, 4, 5]]
"""Numbers of commands; the second sequence drops the television, takes it again, puts it on the plate and so wins."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(made_once(tmp_path_factory, "textworld_game.json", generated))


def judged(kind: type[TextGame], path: str, commands: list[list[int]] = COMMANDS) -> Report:
    return check_forkable_env(lambda: TimeLimit(kind(path), 6), actions=commands, seeds=(0,), raise_on_fail=False)


def test_it_passes_through_copy(path: str) -> None:
    """It draws nothing: what happens in a game was decided when the game was made."""
    report = judged(TextGame, path)
    assert report.ok, str(report)
    assert set(report.skipped) == {Law.TIMEOUT, Law.SECRETS, Law.RESEED}


def test_the_game_can_be_won(path: str) -> None:
    env = TextGame(path)
    env.reset()
    assert [env.step(action)[1:3] for action in COMMANDS[1]] == [(0.0, False)] * 3 + [(1.0, True)]


@pytest.mark.parametrize(
    ("kind", "sound", "broken"),
    [
        pytest.param(OneGame, Law.FAITHFUL, Law.INDEPENDENT, id="shared state"),
        pytest.param(BegunAgain, Law.UNTOUCHED, Law.FAITHFUL, id="state that is lost"),
    ],
)
def test_what_only_seems_to_be_copied_fails(kind: type[TextGame], sound: Law, broken: Law, path: str) -> None:
    """The law that is broken is named, and not one that holds."""
    report = judged(kind, path, COMMANDS[1:])
    assert broken in report.failed, str(report)
    assert sound in report.passed, str(report)
