"""A place that cannot be written is told before the work of any command, which here could not be done at all."""

import pytest
from test_cli import exit_status, said

from algorithms.cli import COMMANDS
from algorithms.cli.outputs import require_file, require_folder
from arpo_envs import ConfigError

pytestmark = pytest.mark.usefixtures("wide_terminal")

FOLDERS = {
    "train": "train --policy embedded --env No/Such-v0 --output",
    "train, rehearsed": "train --dry-run --policy embedded --env No/Such-v0 --output",
    "train, weights": "train --policy http://localhost:9 --env No/Such-v0 --model-folder folder --weights-folder",
    "sft": "sft --policy none --data none.jsonl --output",
    "compare": "compare arpo no_such_algorithm --output",
    "study": "study --output",
    "entropy": "entropy --policy none --output",
    "export": "export none --output",
    "new": "new env maze --folder",
}
FILES = {
    "eval": "eval --policy none --json",
    "eval, records": "eval --policy none --records",
    "study, results": "study --readme None --output study --results",
    "report": "report none --output",
    "plan": "plan --run none --json",
    "bench": "bench start --json",
}
WRITE_NOTHING = {"show", "view", "play", "envs", "algorithms", "serve-search", "doctor"}
UNUSABLE = {
    "below a file": ("file/below/it", "file is not a folder"),
    "a long name": ("a" * 300, "File name too long"),
    "a long name in a folder to be made": (f"none/{'a' * 300}/x", "File name too long"),
    "a NUL": ("a\0b", "null byte"),
    "no place for files": ("/proc/none", "No such file or directory"),
}
CASES = [
    *((words, *case) for words in FOLDERS.values() for case in (*UNUSABLE.values(), ("file", "file is not a folder"))),
    *((words, *case) for words in FILES.values() for case in (*UNUSABLE.values(), ("folder", "is not a file"))),
]


def test_every_command_is_here_that_writes():
    assert {words.split()[0] for words in (*FOLDERS.values(), *FILES.values())} | WRITE_NOTHING == COMMANDS.keys()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a file and a folder in it, to work in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text('{"model_type": "gpt2"}')
    return tmp_path


@pytest.mark.parametrize(("words", "path", "why"), CASES)
def test_it_is_told_first_and_plainly(words, path, why, place, capsys):
    assert exit_status([*words.split(), path]) == 2
    told = " ".join(said(capsys).split())
    option = words.split()[-1]
    assert f"{option} '" in told
    assert "cannot be written" in told
    assert why in told
    assert f"Give another {option}." in told
    assert sorted(one.name for one in place.iterdir()) == ["file", "folder"]


def test_a_place_that_can_be_written_is_left_as_it_was(place):
    for folder in ("folder", "new", "new/far/below"):
        require_folder(place / folder)
        require_file(place / folder / "result.json", "--json")
    require_file(place / "file", "--json")
    assert sorted(one.name for one in place.rglob("*")) == ["config.json", "file", "folder"]


def test_what_others_keep_there_stays(place):
    (place / ".result.json.tmp").write_text("another command's")
    require_file(place / "result.json", "--json")
    assert (place / ".result.json.tmp").read_text() == "another command's"


def test_a_name_must_leave_room_for_those_beside_it(place):
    require_file(place / ("a" * 250), "--json")
    with pytest.raises(ConfigError, match="File name too long"):
        require_file(place / ("a" * 251), "--json")
