"""Environments on the command line: of other packages, with wrong arguments, and what is none of texts."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import gymnasium as gym
import pytest
from toys import TownEnv

from algorithms.cli import main
from algorithms.cli.environments import arguments_of, env_maker
from algorithms.cli.summary import advice
from arpo_envs import ConfigError
from arpo_envs.envs.named import require_env

ENV = """
import gymnasium as gym
from toys import TownEnv
class Town(TownEnv):
    "A town."
    def __init__(self, *, size: int = 3, dialect: str = "tags", render_mode=None):
        super().__init__(dialect=dialect)
class Odd(gym.Env):
    def __init__(self): raise KeyError("no such town")
class Blind(Town):
    def __init__(self): super().__init__(); self.observation_space = gym.spaces.Discrete(3)
"""
REGISTERS = ENV + 'gym.register("Good/Town-v0", entry_point="good:Town")\n'
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Returns what installs a package of one module; what it registers is forgotten afterwards."""
    monkeypatch.setenv("COLUMNS", "300")
    modules, ids = set(sys.modules), set(gym.registry)

    def put(package: str, code: str, offers: Mapping[str, str] | None = None) -> None:
        info = tmp_path / package / f"{package}-1.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n", encoding="utf-8")
        lines = "".join(f"{name} = {value}\n" for name, value in (offers or {}).items())
        (info / "entry_points.txt").write_text(f"[arpo.envs]\n{lines}", encoding="utf-8")
        (tmp_path / package / f"{package}.py").write_text(code, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path / package))

    yield put
    for name in set(sys.modules) - modules:
        if name.startswith(("good", "bad", "rival")):
            del sys.modules[name]
    for env in set(gym.registry) - ids:
        del gym.registry[env]


def said(words: list[str], capsys: pytest.CaptureFixture[str], status: int = 2) -> str:
    try:
        found = main(words)
    except SystemExit as end:
        found = end.code  # type: ignore[assignment]
    captured = capsys.readouterr()
    text = " ".join((captured.out + captured.err).split())
    assert found == status, text
    return text


# --- the entry points --------------------------------------------------------------------------------------


def test_an_environment_is_found_by_its_entry_point_and_imported_only_then(install: Install) -> None:
    install("good", ENV, {"Good/Town-v0": "good:Town"})
    assert "Good/Town-v0" not in gym.registry
    assert require_env("ARPO/Search-v0") == "ARPO/Search-v0"
    assert "good" not in sys.modules
    env = env_maker("Good/Town-v0", {"size": 4})()
    assert (env.spec.id, env.spec.entry_point, type(env.unwrapped).__name__) == ("Good/Town-v0", "good:Town", "Town")
    assert gym.make("Good/Town-v0").spec == gym.make("Good/Town-v0").spec
    assert list(arguments_of("Good/Town-v0")) == ["size", "dialect", "render_mode"]


def test_a_package_that_registers_by_itself_too_is_not_overridden(install: Install) -> None:
    install("good", REGISTERS, {"Good/Town-v0": "good:Town"})
    assert env_maker("Good/Town-v0", {})().reset(seed=0)


def test_what_is_ours_keeps_its_id(install: Install) -> None:
    install("rival", ENV, {"ARPO/Search-v0": "rival:Town"})
    assert type(env_maker("ARPO/Search-v0", {"cities_per_country": 2})().unwrapped).__name__ == "SearchEnv"
    assert "rival" not in sys.modules


def test_arpo_envs_lists_those_of_packages_and_the_broken_ones_with_the_reason(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("good", ENV, {"Good/Town-v0": "good:Town", "Good/Odd-v0": "good:Odd", "Good/None-v0": "good:Toun"})
    install("bad", "import nowhere_at_all", {"Bad/Town-v0": "bad:Town", "not an id!": "bad:Town"})
    text = said(["envs"], capsys, 0)
    assert "Good/Town-v0" in text
    assert "A town" in text
    assert "from good 1.5" in text
    for name in ("Good/Odd-v0", "Good/None-v0", "Bad/Town-v0", "ARPO/Search-v0"):
        assert name in text
    assert "KeyError: 'no such town'" in text
    assert "It needs nowhere_at_all" in text
    assert "Did you mean 'Town'?" in text
    text = said(["doctor"], capsys, 0)
    assert "environment" in text
    assert "Good/Town-v0" in text


@pytest.mark.parametrize(
    ("offers", "asked", "words"),
    [
        ({"Good/Town-v0": "good:Town"}, "Good/Toun-v0", "Did you mean 'Good/Town-v0'?"),
        ({"Good/Town-v0": "good:Toun"}, "Good/Town-v0", "Did you mean 'Town'?"),
        ({"Good/Town-v0": "good:__name__"}, "Good/Town-v0", "expected a class of environments"),
        ({"Good Town": "good:Town"}, "Good Town", "the name must be an id, Namespace/Name-v0"),
        ({"Good/Odd-v0": "good:Odd"}, "Good/Odd-v0", "cannot be made: KeyError: 'no such town' (good.py:"),
        ({"Good/Blind-v0": "good:Blind"}, "Good/Blind-v0", "shows no text: its observations are Discrete(3)"),
    ],
)
def test_what_cannot_be_had_is_refused_in_words(
    offers: Mapping[str, str], asked: str, words: str, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("good", ENV, offers)
    assert words in said(["play", asked], capsys)


def test_an_id_of_two_packages_is_refused_with_both(install: Install) -> None:
    install("good", ENV, {"Good/Town-v0": "good:Town"})
    install("rival", ENV, {"Good/Town-v0": "rival:Town"})
    with pytest.raises(ConfigError, match=r"offered by good 1.5 \(good:Town\) and rival 1.5 \(rival:Town\)"):
        env_maker("Good/Town-v0", {})


def test_importing_the_suite_looks_for_no_entry_points() -> None:
    code = "import sys, arpo_envs; print('importlib.metadata' in sys.modules, 'arpo_envs.envs.named' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "False"


# --- package:id and wrong arguments --------------------------------------------------------------------------

COMMANDS = {
    "play": ["play", "{env}", "--args", "{args}"],
    "train": ["train", "--dry-run", "--env", "{env}", "--env-args", "{args}", "--train-args", "--eval-args"],
    "eval": ["eval", "--policy", "{policy}", "--env", "{env}", "--args", "{args}"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("env", "args", "words"),
    [
        ("good:Good/Town-v0", "sise=4", "Unknown argument of good:Good/Town-v0 'sise'. Known: dialect, render_mode, size."),
        ("good:Good/Town", "size=4", "Unknown environment 'Good/Town'."),
        ("good:Good/Town", "sise=4", "Did you mean 'Good/Town-v0'?"),
        ("good:Good/Toun-v0", "size=4", "Did you mean 'Good/Town-v0'?"),
        ("good:Good/Town-v1", "size=4", "Did you mean 'Good/Town-v0'?"),
        ("good:Town", "size=4", "Did you mean 'Good/Town-v0'?"),
        ("good:", "size=4", "Unknown environment ''."),
        (":Good/Town-v0", "size=4", "Unknown environment"),
        ("goood:Good/Town-v0", "size=4", "Install the package it is in"),
        ("bad:Bad/Town-v0", "size=4", "TypeError: mine. The module itself raised this"),
        ("bad::Bad/Town-v0", "size=4", "is not a valid module name"),
        ("CartPole-v1", "sutton_barto_reward=True", "CartPole-v1 takes no text: its actions are Discrete(2)"),
        ("ARPO/Search", "size=4", "Did you mean 'ARPO/Search-v0'?"),
    ],
)
def test_every_command_says_plainly_what_is_wrong_with_an_environment(
    command: str, env: str, args: str, words: str, install: Install, tiny_policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("good", REGISTERS)
    install("bad", "raise TypeError('mine')")
    asked = [word.format(env=env, args=args, policy=tiny_policy) for word in COMMANDS[command]]
    text = said(asked, capsys)
    assert words in text.replace(" │ │ ", " "), text
    assert "Traceback" not in text


def test_the_dry_run_refuses_cart_poles_with_any_policy(tiny_policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in (["--policy", str(tiny_policy)], []):
        text = said(["train", "--dry-run", "--env", "CartPole-v1", "--train-args", "--eval-args", *more], capsys)
        assert "CartPole-v1 takes no text: its actions are Discrete(2). `arpo envs` lists environments that do." in text


def test_a_registered_class_needs_no_string() -> None:
    gym.register("Toy/Class-v0", entry_point=TownEnv)
    try:
        assert "max_turns" in arguments_of("Toy/Class-v0")
        with pytest.raises(ConfigError, match="Did you mean 'max_turns'"):
            env_maker("Toy/Class-v0", {"max_turn": 3})
        with pytest.raises(ConfigError, match="Did you mean 'Toy/Class-v0'"):
            env_maker("Toy/Clas-v0", {})
    finally:
        del gym.registry["Toy/Class-v0"]


# --- advice at the end of a run ------------------------------------------------------------------------------

SUMMARY = {"success_before_greedy": 0.0, "success_after_greedy": 0.0, "algorithm": "grpo", "equal_reward_groups": 0.0}


def test_advice_names_only_arguments_that_the_environment_takes() -> None:
    ours, others = (" ".join(advice(SUMMARY, arguments_of(env))) for env in ("ARPO/SearchMini-v0", "ARPO/Python-v0"))
    assert "hops=1" in ours
    assert "world=counterfactual" in ours
    assert "easier tasks." in others
    assert "hops" not in others
    assert "world" not in others


@pytest.mark.parametrize(("share", "words"), [(1.0, "For every prompt, all"), (0.9, "For 90% of the prompts, all"), (0.5, "")])
def test_equal_rewards_throughout_are_remarked(share: float, words: str) -> None:
    lines = advice(SUMMARY | {"equal_reward_groups": share}, ())
    assert ("earned the same" in " ".join(lines)) == bool(words)
    assert words in lines[0]
