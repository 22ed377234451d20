"""Games of TextArena and GEM as environments here: they keep the laws, copied and replayed."""

import copy
import logging
import random
import re
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from arpo_envs import ConfigError, ForkLevel, SnapshotMismatch, clone, restore, snapshot
from arpo_envs.envs import named
from arpo_envs.hubs import gem, textarena, textworld
from arpo_envs.hubs.own_random import OwnRandom
from arpo_envs.testing import Law, check_forkable_env


@pytest.fixture(scope="module", autouse=True)
def _libraries() -> None:
    """Both are here; imported by who runs these tests, since all processes collect them."""
    pytest.importorskip("textarena")
    pytest.importorskip("gem")


SLIDES = ["[Up]", "[Left]", "[Down]", "[Right]", "[Up]", "up"]
BOXED = [rf"\boxed{{{where}}}" for where in ("up", "left", "down", "right", "up")] + ["nonsense"]
ABOUT_TOOLS = {Law.TIMEOUT, Law.SECRETS}


def made(hub: str, game: str, **options: Any) -> gym.Env[Any, Any]:
    env: gym.Env[Any, Any] = gym.make(f"arpo_envs.hubs.{hub}/Game-v0", game=game, disable_env_checker=True, **options)
    return env


@pytest.mark.parametrize("fork", ["auto", pytest.param("replay", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("hub", "game", "actions"),
    [("textarena:TextArena", "2048-v0-mega-easy", SLIDES), ("gem:GEM", "game:Game2048-v0-easy", BOXED)],
    ids=["textarena", "gem"],
)
def test_games_that_draw_from_global_generators_keep_all_laws(hub: str, game: str, actions: list[str], fork: str) -> None:
    scripts = [actions, actions[::-1]]
    report = check_forkable_env(lambda: made(hub, game, fork=fork), actions=scripts, seeds=(0,))
    assert set(report.skipped) == ABOUT_TOOLS


def test_the_level_is_found_out_or_chosen() -> None:
    assert textarena.make("GuessTheNumber-v0").unwrapped.fork_level is ForkLevel.EXACT
    assert textarena.make("GuessTheNumber-v0", fork="replay").unwrapped.fork_level is ForkLevel.REPLAY
    assert gem.make("game:GuessTheNumber-v0-easy").unwrapped.fork_level is ForkLevel.EXACT


def test_a_game_of_textarena_is_won() -> None:
    """By halving; each message of the game is shown once."""
    env = made("textarena:TextArena", "GuessTheNumber-v0")
    text, info = env.reset(seed=4)
    assert "between 1 and 20" in text
    assert (info["tool"], info["status"]) == ("", "reset")
    low, high, over = 1, 20, False
    while not over:
        guess = (low + high) // 2
        text, reward, over, _, info = env.step(f"I say [{guess}]")
        assert "between 1 and 20" not in text
        low, high = (guess + 1, high) if "higher" in text else (low, guess - 1)
    assert (reward, info["success"], info["tool"]) == (1.0, 1.0, "move")
    assert "Congratulations" in text


def test_a_game_of_gem_shows_its_board_and_pays_a_success() -> None:
    env = gem.make("game:GuessTheNumber-v0-easy")
    text, _ = env.reset(seed=2)
    assert text.endswith("Enter your next guess.")
    secret = env.live.game.game_number
    _, reward, terminated, truncated, info = env.step(rf"\boxed{{{secret}}}")
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, 1.0)
    env.reset(seed=2)
    _, reward, terminated, _, info = env.step("I give up")
    assert (reward < 0, terminated, info["success"]) == (True, True, 0.0)


def test_what_others_draw_is_neither_seen_nor_changed() -> None:
    env = textarena.make("2048-v0-mega-easy")
    env.reset(seed=1)
    twin = clone(env)
    np.random.normal()  # noqa: NPY002  # draws two, and keeps one
    before = outside()
    first = env.step("[Up]")
    assert outside() == before
    random.seed(99)
    assert twin.step("[Up]") == first
    random.setstate(before[0])


def outside() -> Any:
    kind, key, *rest = np.random.get_state()  # noqa: NPY002  # read, to see whether it was used
    return random.getstate(), kind, key.tolist(), *rest


def test_an_own_generator_is_copied_independently() -> None:
    one = OwnRandom(5)
    other = copy.deepcopy(one)

    def drawn(own: OwnRandom) -> tuple[float, float]:
        with own.lent():
            return random.random(), float(np.random.random())  # noqa: NPY002  # what games use

    first = drawn(one)
    assert drawn(other) == first != drawn(one)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: textarena.make("GuesTheNumber-v0"),
            r"TextArena has no 'GuesTheNumber-v0', but \d+ others. The closest: GuessThe",
        ),
        (lambda: textarena.make("Nim-v0"), r"Nim-v0 is not a game of 1 player.*received 1.*textarena_players: env"),
        (lambda: textarena.make("GuessTheNumber-v0", size=3), r"TextArena cannot make GuessTheNumber-v0: TypeError: .*'size'"),
        (lambda: textarena.make("GuessTheNumber-v0", max_turns=object()), r"Arguments of a game must be numbers, strings"),
        (lambda: gem.make("game:Mastermind"), r"GEM has no 'game:Mastermind', but \d+ others. The closest: game:Mastermind-v0"),
        (lambda: gem.make("game:Mastermind-v0-easy", fork="copy"), r"Unknown way to fork 'copy'. Known: auto, replay"),
        (lambda: named.make_env("arpo_envs.hubs.textworld:TextWorld/Game-v0", {"room": 2}), r"Did you mean 'rooms'"),
    ],
)
def test_mistakes_are_told(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_snapshot_of_another_game_is_refused() -> None:
    env, other = (textarena.make(game, fork="replay") for game in ("GuessTheNumber-v0", "2048-v0-mega-easy"))
    env.reset(seed=1)
    other.reset(seed=1)
    with snapshot(other) as parked, pytest.raises(SnapshotMismatch):
        restore(env, parked)


def test_options_of_a_reset_are_refused() -> None:
    env = textarena.make("GuessTheNumber-v0")
    with pytest.raises(ConfigError, match=r"Unknown reset options \['task'\]: a game has none"):
        env.reset(seed=1, options={"task": "7"})
    env.reset(seed=1, options={})


def test_an_action_is_a_string() -> None:
    env = textarena.make("GuessTheNumber-v0")
    env.reset(seed=1)
    with pytest.raises(TypeError, match="An action is a string, got int"):
        env.step(7)


@pytest.mark.parametrize(
    ("library", "make", "package"),
    [
        ("textarena", lambda: textarena.TextArena("Nim-v0"), "textarena"),
        ("gem", lambda: gem.Gem("rg:ab"), "gem-llm reasoning-gym"),
        ("textworld.envs", lambda: textworld.make(path="none.json"), "textworld"),
    ],
)
def test_without_the_library_it_says_what_to_install(
    library: str, make: Any, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=rf"cannot be imported: .*`pip install.* {package}") as refused:
        make()
    page = (Path(__file__).parents[2] / "docs" / "hubs-inward.md").read_text()
    first, then = re.findall("`pip install[^`]*`", str(refused.value))
    assert f"| {first}, then {then} |" in page


def test_without_verifiers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "arpo_envs.hubs.verifiers_seats", None)
    with pytest.raises(ConfigError, match=r"verifiers cannot be imported: .*`pip install 'arpo-envs\[verifiers\]'`"):
        gym.make("arpo_envs.hubs.from_verifiers:Verifiers/Task-v0", taskset="any", fork="replay")


def test_what_others_do_to_logging_is_undone() -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    with gem.own_logging():
        root.addHandler(logging.NullHandler())
        root.setLevel(logging.DEBUG)
    assert (list(root.handlers), root.level) == before
