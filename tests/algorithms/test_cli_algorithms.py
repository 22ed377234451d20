"""`arpo algorithms`, called as its console script calls it."""

import inspect
import re

import pytest

from algorithms import make, names
from algorithms.cli import main
from algorithms.recipes import recipe

pytestmark = pytest.mark.usefixtures("wide_terminal")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_all_are_listed_with_a_line_and_their_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["algorithms"]) == 0
    text = said(capsys)
    for name in names():
        about = text[text.index(f"│ {name} ") :].split("├")[0]
        assert make(name).source in about
    assert "GRPO: independent rollouts, compared within their group" in text
    assert "16 rollouts, 8 roots · ARPO, arXiv 2507.19849" in text
    assert "1 rollout · PPO" in text
    assert text.index("│ grpo ") < text.index("│ aepo "), "independent rollouts first, then trees"


@pytest.mark.parametrize("name", names())
def test_one_is_explained_with_its_options_and_defaults(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["algorithms", name]) == 0
    text = said(capsys)
    assert make(name).source in text
    assert "Source: " in text
    for option, parameter in inspect.signature(recipe(name)).parameters.items():
        row = next(line for line in text.splitlines() if line.startswith(f"│ {option} "))
        assert f"│ {parameter.default} " in row
    assert f"arpo train --algorithm {name} --algorithm-args " in text
    assert f'algorithms.make("{name}", ' in text


def test_what_an_option_takes_and_means_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["algorithms", "arpo"]) == 0
    text = said(capsys)
    assert "'soft' or 'hard'" in text
    assert "a number or None" in text
    assert "N, rollouts that start from the prompt." in text
    assert main(["algorithms", "ppo"]) == 0
    assert "1 rollout per prompt · loss: mean over all tokens · needs values" in said(capsys)
    assert main(["algorithms", "dapo"]) == 0
    assert "trains on trees with mixed success" in said(capsys)
    assert main(["algorithms", "spo_tree"]) == 0
    assert "--algorithm-args 'fan_outs=(6,6,6)'" in said(capsys), "as a shell takes it"
    assert main(["algorithms", "dr_grpo"]) == 0
    assert "sum over each path, divided by 3000 and the number of paths" in said(capsys)


@pytest.mark.parametrize("width", ["40", "80"])
def test_it_fits_a_narrow_terminal(width: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    for words, wanted in ((["algorithms"], "importanceweightsarebounded"), (["algorithms", "arpo"], "uncertain")):
        assert main(words) == 0
        text = said(capsys)
        tables = [line for line in text.splitlines() if line.startswith(("│", "┃", "┏", "└"))]
        assert max(map(len, tables)) <= int(width)
        assert wanted in re.sub(r"[\s│]", "", text), "nothing is cut off"


def test_an_unknown_name_gives_2_and_the_closest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["algorithms", "gropo"]) == 2
    assert "Did you mean 'grpo'?" in said(capsys)
