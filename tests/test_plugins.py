"""Parts of other packages, by name and by reference: what is found, what is refused and in which words."""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec

import algorithms
from algorithms.cli import main
from algorithms.policies.named import POLICIES, make_policy
from algorithms.policies.scripted import ScriptedPolicy
from arpo_envs import ConfigError, Plugin, Registry
from arpo_envs.plugins import imported, is_reference
from arpo_envs.tools.named import TOOLS, make_tools

Install = Callable[..., None]
SHAPES = Registry("shape", "arpo.shapes", {"fraction": "fractions:Fraction"})


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Returns what installs a package of one module: metadata beside code, as pip leaves them."""
    monkeypatch.setenv("COLUMNS", "300")
    known = set(sys.modules)

    def put(package: str, groups: Mapping[str, Mapping[str, str]], code: str = "", module: str = "") -> None:
        site = tmp_path / package
        info = site / f"{package}-1.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n", encoding="utf-8")
        lines = [
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in ones.items()) for group, ones in groups.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
        (site / f"{module or package}.py").write_text(code, encoding="utf-8")
        monkeypatch.syspath_prepend(str(site))

    yield put
    for name in set(sys.modules) - known:
        if name.startswith(("good", "bad", "rival")):
            del sys.modules[name]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


# --- names --------------------------------------------------------------------------------------------------


def test_a_name_of_a_package_is_found_and_nothing_is_imported_before(install: Install) -> None:
    install("good", {"arpo.shapes": {"square": "good:SQUARE", "side": "good:Box.side"}}, "SQUARE = 4\nclass Box: side = 2\n")
    assert SHAPES.plugins() == [Plugin("side", "good:Box.side", "good 1.5"), Plugin("square", "good:SQUARE", "good 1.5")]
    assert SHAPES.names() == ["fraction", "side", "square"]
    assert SHAPES.find("fraction")(1, 2) == 0.5
    assert "good" not in sys.modules
    assert SHAPES.find("square") == SHAPES.find("good:SQUARE") == 4
    assert SHAPES.find("side") == SHAPES.find("good:Box.side") == 2


def test_an_unknown_name_is_told_the_closest_one_wherever_it_is_from(install: Install) -> None:
    install("good", {"arpo.shapes": {"square": "good:SQUARE"}})
    with pytest.raises(ConfigError, match=r"Unknown shape 'sqare'. Known: fraction, square. Did you mean 'square'\?"):
        SHAPES.find("sqare")
    assert "good" not in sys.modules


def test_what_is_built_in_keeps_its_name(install: Install) -> None:
    install("rival", {"arpo.shapes": {"fraction": "rival:MINE"}}, "MINE = 'mine'")
    assert SHAPES.find("fraction").__name__ == "Fraction"
    assert SHAPES.find("rival:MINE") == "mine"


def test_a_name_of_two_packages_is_refused_with_both(install: Install) -> None:
    install("good", {"arpo.shapes": {"square": "good:SQUARE"}}, "SQUARE = 4")
    install("rival", {"arpo.shapes": {"square": "rival:SQUARE"}}, "SQUARE = 5")
    with pytest.raises(ConfigError, match=r"'square' is offered by good 1.5 \(good:SQUARE\) and rival 1.5 \(rival:SQUARE\)"):
        SHAPES.find("square")
    assert SHAPES.find("rival:SQUARE") == 5


def test_what_is_installed_is_looked_through_again_only_when_something_was_added(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, real = [], importlib.metadata.entry_points
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **group: looked.append(group) or real(**group))
    install("good", {"arpo.shapes": {"square": "good:SQUARE"}}, "SQUARE = 4")
    os.utime(tmp_path / "good", ns=(0, 0))  # clocks of files are coarse
    assert [SHAPES.knows(name) for name in ("square", "circle", "square", "oval")] == [True, False, True, False]
    assert len(looked) == 1
    shutil.copytree(tmp_path / "good" / "good-1.5.dist-info", tmp_path / "good" / "good_too-1.5.dist-info")
    metadata = tmp_path / "good" / "good_too-1.5.dist-info" / "METADATA"
    metadata.write_text("Metadata-Version: 2.1\nName: good_too\nVersion: 1.5\n", encoding="utf-8")
    assert [plugin.package for plugin in SHAPES.plugins()] == ["good 1.5", "good_too 1.5"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "import nowhere_at_all",
            ["ModuleNotFoundError: No module named 'nowhere_at_all'", "It needs nowhere_at_all"],
        ),
        ("1 / 0", ["ZeroDivisionError: division by zero", "The module itself raised this"]),
        ("x = (", ["SyntaxError: '(' was never closed"]),
        ("SQARE = 4", ["does not exist", "Did you mean 'SQARE'?"]),
    ],
)
def test_a_broken_package_is_named_with_the_reason(code: str, words: list[str], install: Install) -> None:
    install("bad", {"arpo.shapes": {"square": "bad:SQUARE"}}, code)
    with pytest.raises(ConfigError) as caught:
        SHAPES.find("square")
    assert str(caught.value).startswith("The shape 'square' of bad 1.5 (bad:SQUARE) ")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert SHAPES.find("fraction")(1, 2) == 0.5, "others still work"


def test_references() -> None:
    assert is_reference("a.b_c:D.e")
    for other in ("a", "a:", ":b", "a b:c", "http://host", "host:8000", "ARPO/Search-v0", "mine:ARPO/Search-v0"):
        assert not is_reference(other)
    with pytest.raises(ConfigError, match=r"The shape a:b c is not written package\.module:object"):
        SHAPES.find("a:b c")
    with pytest.raises(ConfigError, match=r"No module named 'not_installed'. Install the package it is in; .*PYTHONPATH=\."):
        imported("not_installed.part:x", "It")


# --- algorithms ---------------------------------------------------------------------------------------------

ALGORITHM = """
from dataclasses import replace
from algorithms import make
PLAIN = replace(make("grpo", rollouts=3), name="plain", source="nowhere")
def recipe(*, rollouts: int, bold: bool = True):
    '''Returns GRPO, under another name.'''
    return replace(PLAIN, rollouts=rollouts)
def wrong():
    return 7
SEVEN = 7
"""


def test_an_algorithm_may_be_a_function_or_a_value(install: Install) -> None:
    install("good", {"arpo.algorithms": {"plain": "good:PLAIN", "bold": "good:recipe"}}, ALGORITHM)
    assert {"plain", "bold", "grpo"} <= set(algorithms.names())
    assert algorithms.make("plain").rollouts == 3
    assert algorithms.make("bold", rollouts=5).rollouts == 5
    assert algorithms.make("good:recipe", rollouts=5) == algorithms.make("bold", rollouts=5)
    for name, options, words in (
        ("bold", {}, "bold needs a value for rollouts"),
        ("bold", {"rollouts": "many"}, "bold takes rollouts = a whole number, got 'many'"),
        ("bold", {"rollouts": 3, "blod": 1}, "Did you mean 'bold'?"),
        ("plain", {"rollouts": 4}, "plain does not take 'rollouts'"),
        ("good:wrong", {}, "returned 7, which is not an algorithms.Algorithm"),
        ("good:SEVEN", {}, "is 7; expected an Algorithm, or a function that returns one"),
    ):
        with pytest.raises(ConfigError) as caught:
            algorithms.make(name, **options)
        assert words in str(caught.value)


def test_all_are_listed_with_their_package_and_broken_ones_hide_none(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("good", {"arpo.algorithms": {"plain": "good:PLAIN", "bold": "good:recipe", "arpo": "good:PLAIN"}}, ALGORITHM)
    install("bad", {"arpo.algorithms": {"broken": "bad:x"}, "arpo.tools": {"hammer": "bad:x"}}, "1 / 0")
    assert main(["algorithms"]) == 0
    text = said(capsys)
    assert "3 rollouts · nowhere │ │ │ from good 1.5, good:PLAIN" in text
    assert "GRPO, under another name │ │ │ needs a value for rollouts │ │ │ from good 1.5, good:recipe" in text
    assert "Not usable: The algorithm 'broken' of bad 1.5 (bad:x) cannot be imported: ZeroDivisionError" in text
    assert "The name is taken: use good:PLAIN" in text
    assert "│ tree_rl " in text
    assert main(["algorithms", "plain"]) == 0
    assert "It has no options." in said(capsys)
    assert main(["algorithms", "bold"]) == 0
    assert "│ rollouts │ needed │" in said(capsys)
    assert main(["algorithms", "broken"]) == 2
    assert "of bad 1.5 (bad:x) cannot be imported: ZeroDivisionError" in said(capsys)
    main(["doctor"])
    text = said(capsys)
    assert "✓ algorithm plain good 1.5, good:PLAIN" in text
    assert "✗ tool hammer The tool 'hammer' of bad 1.5 (bad:x) cannot be imported" in text


# --- tools --------------------------------------------------------------------------------------------------

TOOL = """
from arpo_envs import Stateless, ToolResult, ToolSpec
class Shout(Stateless):
    def __init__(self, marks: int = 1):
        self.marks = marks
    TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    specs = (ToolSpec("shout", "Shouts.", TEXT),)
    def call(self, name, arguments, *, timeout):
        return ToolResult(arguments["text"].upper() + "!" * self.marks)
LOUD = Shout(3)
"""


@pytest.mark.parametrize(
    ("tools", "answer"),
    [
        ("shout", "KÖLN!"),
        ("good:Shout", "KÖLN!"),
        ("good:LOUD", "KÖLN!!!"),
        (["shout"], "KÖLN!"),
        ({"shout": {"marks": 2}}, "KÖLN!!"),
    ],
)
def test_a_tool_is_offered_by_an_environment_that_is_told_its_name(tools: object, answer: str, install: Install) -> None:
    install("good", {"arpo.tools": {"shout": "good:Shout"}}, TOOL)
    for name in ("ARPO/SearchMini-v0", "ARPO/Python-v0"):
        made = gym.make(name, tools=tools, disable_env_checker=True)
        env = gym.make(EnvSpec.from_json(made.spec.to_json()))  # what it was made of survives as JSON
        env.reset(seed=1)
        assert env.step("<shout>Köln</shout>")[0] == f"<result>{answer}</result>"
        env.close()


def test_made_tools_may_stand_beside_names(install: Install) -> None:
    install("good", {"arpo.tools": {"shout": "good:Shout"}}, TOOL)
    loud = TOOLS.find("good:LOUD")
    assert make_tools([loud, "shout"])[0] is loud
    assert make_tools(None) == []


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ("shuot", "Known: python, shout. Did you mean 'shout'?"),
        ({"shout": {"mraks": 2}}, "does not take these arguments"),
        ({"good:LOUD": {"marks": 2}}, "it is ready-made. Leave out marks"),
        ("good:dict", "is not a tool"),
        ("good:__name__", "is 'good'; expected a tool"),
        (7, "tools= takes a name, several names or tools"),
        (["shout", "shout"], "Two tools share a name"),
    ],
)
def test_tools_that_cannot_be_had_are_refused_in_words(tools: object, words: str, install: Install) -> None:
    install("good", {"arpo.tools": {"shout": "good:Shout"}}, TOOL + "dict = dict")
    with pytest.raises(ConfigError) as caught:
        gym.make("ARPO/Python-v0", tools=tools, disable_env_checker=True)
    assert words in str(caught.value)


# --- policies -----------------------------------------------------------------------------------------------

POLICY = """
from algorithms.policies.scripted import ScriptedPolicy
def silent(*, context_length: int, device: str, word: str = "x"):
    assert device == "cpu"
    return ScriptedPolicy(lambda before, seed: word, context_length=context_length)
def broken():
    return 7
"""


def test_a_policy_takes_what_it_wants_of_what_the_run_tells(install: Install) -> None:
    install("good", {"arpo.policies": {"silent": "good:silent"}}, POLICY)

    def made(name: str, **options: object) -> object:
        return make_policy(name, options, folder=Path(), tokenizer=None, context_length=77, device="cpu")

    policy = made("silent", word="y")
    assert isinstance(policy, ScriptedPolicy)
    assert (policy.context_length, policy.script("", 0)) == (77, "y")
    assert POLICIES.names() == ["local", "server", "silent", "vllm"]
    for name, options, words in (
        ("slient", {}, "Did you mean 'silent'?"),
        ("silent", {"wrod": "y"}, "Did you mean 'word'?"),
        ("silent", {"device": "cuda"}, "silent does not take 'device'"),
        ("silent", {"word": 7}, "silent takes word = a string"),
        ("good:broken", {}, "returned 7, which is not a policy"),
        ("good:__name__", {}, "expected a function that returns a policy"),
    ):
        with pytest.raises(ConfigError) as caught:
            made(name, **options)
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("train --policy slient", "Known: embedded, local, server, silent, smollm2, vllm. Did you mean 'silent'?"),
        ("eval --policy slient", "Did you mean 'silent'?"),
        ("eval --policy silent", "Say with --model-folder which run or model silent should sample from"),
        ("eval --policy silent --model-folder nowhere", "nowhere is neither a run"),
        ("train --policy silent --policy-args wrod=y", "Did you mean 'word'?"),
        ("train --policy silent --engine vllm", "--engine vllm would have no effect"),
        ("train --policy embedded --policy-args word=y", "--policy-args would have no effect"),
        ("train --policy embedded --model-folder x", "--model-folder would have no effect"),
        ("train --policy server", "The policy server needs urls: name it by its URLs"),
        ("train --policy vllm --engine vllm", "--engine vllm would have no effect"),
        ("train --algorithm bold --algorithm-args rollouts=3 --rollouts 4", "rollouts has its own option: write --rollouts 3"),
        ("train --algorithm bold", "bold needs a value for rollouts"),
        ("train --algorithm good:nothing", "The algorithm good:nothing does not exist"),
    ],
)
def test_mistakes_on_the_command_line_are_explained(
    words: str, hint: str, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(
        "good", {"arpo.policies": {"silent": "good:silent"}, "arpo.algorithms": {"bold": "good:recipe"}}, POLICY + ALGORITHM
    )
    monkeypatch.chdir(tmp_path)
    try:
        status = main([*words.split(), "--dry-run"] if words.startswith("train") else words.split())
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert hint in said(capsys).replace(" │ │ ", " ")


MODEL = """
from pathlib import Path
def found(*, say):
    say("found it")
    return Path(PLACE)
def made(*, folder, make_env, seed, rehearsal):
    import shutil
    assert rehearsal and seed == 1 and make_env().unwrapped.spec.id == "ARPO/SearchMini-v0"
    return Path(shutil.copytree(PLACE, folder))
def nothing():
    return 7
"""


@pytest.mark.parametrize("name", ["found", "made"])
def test_a_model_of_another_package_is_trained_by_its_name(
    name: str,
    install: Install,
    tiny_policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install("good", {"arpo.models": {name: f"good:{name}"}}, MODEL.replace("PLACE", repr(str(tiny_policy))))
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--policy", name, "--dry-run"]) == 0
    text = said(capsys)
    assert "Everything fits together" in text
    assert ("found it" in text) == (name == "found")


def test_a_model_that_is_no_folder_is_refused(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("good", {"arpo.models": {"nothing": "good:nothing"}}, MODEL)
    assert main(["train", "--policy", "nothing", "--dry-run"]) == 2
    assert "The model nothing returned 7; expected the path of its folder." in said(capsys)


def test_a_folder_keeps_its_name_whatever_is_installed(
    install: Install, tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from algorithms.cli.policy_source import is_named

    install("good", {"arpo.policies": {"silent": "good:silent"}}, POLICY)
    monkeypatch.chdir(tmp_path)
    assert is_named("silent")
    (tmp_path / "silent").symlink_to(tiny_policy)
    assert not is_named("silent")
    assert is_named("good:silent")
