"""The help of the commands: whole sentences, what happens by default, and headings."""

import itertools
import re

import pytest

from algorithms.cli import main
from algorithms.cli.config import OPTIONS
from algorithms.cli.groups import GROUPS


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code == 0
    return capsys.readouterr().out


def helps(text: str) -> list[list[str]]:
    """The lines of each option's help, without its name but with their indent."""
    found: list[list[str]] = []
    for line in map(str.rstrip, text.splitlines()):
        if option := re.match(r"  --[a-z].*?(  +|$)", line):
            name = option[0]
            found.append([" " * len(name) + line[len(name) :]] if name != line else [])
        elif line.startswith(" " * 8):
            found[-1].append(line)
    return found


@pytest.mark.parametrize(
    ("command", "least"), [("train", 50), ("sft", 30), ("eval", 15), ("plan", 25), ("bench sharing", 10), ("bench pack", 10)]
)
def test_help_is_in_whole_sentences_and_tells_what_happens_by_default(command, least, capsys, monkeypatch):
    """tyro would keep the line breaks of docstrings, and say "None" where something else is meant."""
    monkeypatch.setenv("COLUMNS", "100")
    listed = helps(shown(capsys, *command.split(), "--help"))
    assert len(listed) >= least
    for lines in listed:
        text = " ".join(line.strip() for line in lines)
        assert text.endswith((")", "."))
        assert "(default: None)" not in text
        assert "(default: )" not in text
        assert text.count("(default") <= 1
    wide = max(len(line) for lines in listed for line in lines)
    broken = [one for lines in listed for one, more in itertools.pairwise(lines) if len(f"{one} {more.split()[0]}") < wide]
    assert broken == [], "these lines end although the next word would have found room"


def test_help_says_what_is_usual_for_both_kinds_of_policy(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = " ".join(shown(capsys, "train", "--policy", "http://127.0.0.1:9", "--help").split())  # where no server answers
    for both in ("0.0005 for the embedded policy, otherwise 1e-6", "16 for the embedded policy, otherwise 512"):
        assert f"(default: {both})" in text
    assert "--bad-steps" not in text
    assert "--learner." not in text


def test_each_option_has_one_heading():
    grouped = [name for group in GROUPS for name in group.options]
    assert sorted(grouped) == sorted(OPTIONS)
    names = [group.name for group in GROUPS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+( [a-z]+)*", name) for name in names), "plain words"
    assert all(group.about.endswith(".") for group in GROUPS)


def test_help_lists_each_option_under_its_heading(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")  # a wider terminal gets boxes side by side
    listed = {}
    for line in shown(capsys, "train", "--help").splitlines():
        if title := re.match(r" (\S.+) options *$", line):
            listed[title[1]] = []
        elif option := re.match(r"  --([a-z][a-z-]*)", line):
            listed[list(listed)[-1]].append(option[1].replace("-", "_"))
    assert listed == {group.name: list(group.options) for group in GROUPS}
