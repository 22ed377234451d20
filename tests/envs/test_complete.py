"""Every registered environment is complete: an episode to read, something to see, a spec that travels, and the same again."""

import doctest
import importlib
import io
import re
from typing import Any

import gymnasium as gym
import pytest
from envs.test_laws import IDS, SMALL, made
from gymnasium.utils.env_checker import check_env
from rich.console import Console
from toys import TownEnv

import arpo_envs
from arpo_envs import ConfigError
from arpo_envs.envs import IDS as REGISTERED
from arpo_envs.envs.named import ENVS
from arpo_envs.screen import show
from arpo_envs.testing.scripts import default_scripts, speaking

every_id = pytest.mark.parametrize("name", IDS)


def class_of(name: str) -> type[gym.Env[str, str]]:
    module, _, attribute = REGISTERED[name][0].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    assert issubclass(found, gym.Env)
    return found


def script(name: str, env: gym.Env) -> list[str]:
    """Returns calls, mistakes, junk and an answer."""
    question, _ = env.reset(seed=3)
    return [str(action) for action in default_scripts(env, question)[0]]


def test_every_id_that_is_registered_is_held_to_these_laws():
    assert set(IDS) == set(REGISTERED) == set(ENVS.built_in)


@every_id
def test_the_class_shows_an_episode_that_really_goes_like_that(name):
    """`--doctest-modules` runs it, too, but not what needs the sandbox."""
    made(name).close()
    kind = class_of(name)
    test = doctest.DocTestParser().get_doctest(kind.__doc__, vars(importlib.import_module(kind.__module__)), name, None, 0)
    shown = [example for example in test.examples if "render()" in example.source]
    assert len(shown) == 1
    calls = re.findall(r"^(?:\[\w+\] )?<([\w.]+)>", shown[0].want, re.MULTILINE)
    env = gym.make(name, **SMALL.get(name, {})).unwrapped
    assert speaking(env) is env
    assert {spec.name for spec in env.tool_specs} & {*calls}
    assert [call for call in calls if call != "result"][-1] == "answer"
    env.close()
    for example in test.examples:
        example.options.pop(doctest.SKIP, None)
    said = io.StringIO()
    assert doctest.DocTestRunner(verbose=False).run(test, out=said.write).failed == 0, said.getvalue()


@every_id
def test_as_text_it_holds_everything_that_was_said(name):
    env = made(name, render_mode="ansi")
    said = [env.reset(seed=3)[0]]
    for action in script(name, env):
        observation, _, *over, _ = env.step(action)
        said += [action, observation]
        assert [part for part in said if part.strip() not in str(env.render())] == []
        if any(over):
            break
    env.close()


def lines(text: str) -> str:
    """Returns what a terminal shows without frames and line ends."""
    return re.sub(r"[\s│╭╮╰╯─]+", "", text)


@every_id
def test_for_people_it_prints_by_itself_each_thing_once(name, capsys, wide_terminal):
    env = made(name, render_mode="human")
    actions = script(name, env)
    capsys.readouterr()
    question, _ = env.reset(seed=3)
    assert lines(question) in lines(capsys.readouterr().out)
    assert env.render() is None
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        out = capsys.readouterr().out
        for text in (action, re.sub(r"^<\w+>|</\w+>$", "", observation)):
            assert lines(text.translate({code: 0x2400 + code for code in range(9)})) in lines(out)
        env.render()
        assert capsys.readouterr().out == "", "nothing is printed twice"
        if terminated or truncated:
            assert f"{'answered' if terminated else 'truncated'}, reward {reward:g}" in out
            break
    env.close()


@every_id
def test_what_is_seen_changes_nothing(name):
    seen = []
    for mode in (None, "ansi", "human"):
        env = made(name, render_mode=mode)
        actions = script(name, env)
        seen.append([env.reset(seed=3), *(env.step(action) for action in actions[:3])])
        env.close()
    assert seen[0] == seen[1] == seen[2]


@every_id
def test_a_clone_prints_what_it_does_itself_and_a_snapshot_nothing(name, capsys, wide_terminal):
    env = made(name, render_mode="human")
    question, _ = env.reset(seed=3)
    capsys.readouterr()
    twin, parked = arpo_envs.clone(env), arpo_envs.snapshot(env)
    assert capsys.readouterr().out == ""
    twin.step("the twin's own words")
    out = capsys.readouterr().out
    assert "> the twin's own words" in out
    assert lines(question) not in lines(out)
    arpo_envs.restore(twin, parked)
    env.step("the original's words")
    assert "the twin's" not in capsys.readouterr().out
    for one in (env, twin, parked):
        one.close()


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")
@pytest.mark.parametrize("mode", ["ansi", "human"])
@every_id
def test_gymnasium_accepts_it_in_every_mode(name, mode):
    assert class_of(name).metadata["render_modes"] == ["ansi", "human"]
    check_env(made(name, render_mode=mode).unwrapped)


@every_id
def test_rows_print_what_they_do(name, capsys, wide_terminal):
    made(name).close()
    rows = gym.make_vec(name, num_envs=2, render_mode="human", **SMALL.get(name, {}))
    questions, _ = rows.reset(seed=[3, 4])
    rows.step(["the first row's", "the second row's"])
    out = capsys.readouterr().out
    assert all(lines(text) in lines(out) for text in (*questions, "> the first row's", "> the second row's"))
    assert rows.render() == (None, None)
    rows.close()


@every_id
def test_a_seed_decides_everything(name):
    episodes: list[Any] = []
    for _ in range(2):
        env = made(name)
        actions = script(name, env)
        episodes.append([env.reset(seed=3), *(env.step(action) for action in actions[:4])])
        env.close()
    assert episodes[0] == episodes[1]
    env = made(name)
    assert len({env.reset(seed=seed)[0] for seed in range(12)}) > 1
    env.close()


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match="'ansi' or 'human', got 'rgb_array'"):
        TownEnv(render_mode="rgb_array")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp1252"])
def test_whatever_was_said_can_be_shown_and_steers_no_terminal(encoding):
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding=encoding, write_through=True), force_terminal=False, width=80)
    hostile = "\x1b]0;title\x07\x1b[2J \x00\x9b31m \ud800 \u202e [bold]not markup[/] 你好 é"
    show([(who, hostile) for who in ("question", "action", "observation", "end")], console)
    show([("action", "x" * 1_000_000)], console)
    out = raw.getvalue().decode(encoding)
    assert out.count("[bold]not markup[/]") == 4
    assert not {*out} & {chr(code) for code in [*range(9), *range(11, 32), 127, *range(128, 160)]}
    assert "990002 more characters]" in out.replace("\n", "")
