"""TextWorld here: a fork is TextWorld's own copy, which keeps the laws."""

import pytest
from made_once import made_once
from textworld_adapter import generated, needs_textworld

from arpo_envs import ConfigError, ForkLevel, clone
from arpo_envs.hubs import textworld
from arpo_envs.testing import Law, check_forkable_env

pytestmark = needs_textworld


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(made_once(tmp_path_factory, "textworld_game.json", generated))


@pytest.mark.slow
@pytest.mark.parametrize("fork", ["auto", "replay"])
def test_a_game_of_textworld_keeps_all_laws(fork: str, story: str) -> None:
    env = textworld.make(path=story)
    text, _ = env.reset(seed=0)
    assert "You can: " in text
    actions = [["fly", "drop television", "take television"]]
    report = check_forkable_env(lambda: textworld.make(path=story, fork=fork), actions=actions, seeds=(0,))
    assert set(report.skipped) == {Law.TIMEOUT, Law.SECRETS, Law.RESEED}  # what happens was decided when the game was made


def test_a_game_of_textworld_is_won_step_by_step(story: str) -> None:
    env = textworld.make(path=story)
    env.reset(seed=0)
    quest = env.live.game._inform7.gen_commands_from_actions(env.live.game._current_winning_policy)
    steps = [env.step(command) for command in quest]
    assert [reward for _, reward, *_ in steps] == [0.0] * (len(quest) - 1) + [1.0]
    assert steps[-1][2]
    assert steps[-1][4]["success"] == 1.0


@pytest.mark.slow
def test_the_seed_chooses_one_of_the_games() -> None:
    env = textworld.make(rooms=1, objects=2, quest_length=1, games=2)
    texts = {env.reset(seed=seed)[0] for seed in range(6)}
    assert len(texts) == 2


def test_a_fork_is_the_games_own_copy(story: str, monkeypatch: pytest.MonkeyPatch) -> None:
    env = textworld.make(path=story)
    assert env.fork_level is ForkLevel.EXACT
    env.reset(seed=0)
    copied: list[object] = []
    kind = type(env.live.game)
    own = kind.copy
    monkeypatch.setattr(kind, "copy", lambda self: copied.append(self) or own(self))
    clone(env)
    assert copied == [env.live.game]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rooms": 0}, r"needs at least one of each, got rooms=0"),
        ({"path": "none.json"}, r"TextWorld cannot make none.json: FileNotFoundError"),
    ],
)
def test_mistakes_are_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        textworld.make(**options)
