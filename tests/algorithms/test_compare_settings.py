"""What the runs of an `arpo compare` have in common, whichever calls and versions trained them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from algorithms.cli.compare_settings import common, settled
from algorithms.cli.config import OPTIONS, TrainConfig
from arpo_envs import ConfigError

ASKED = {"budget_calls": 20_000, "train": []}


def settle(folder: Path, asked: Mapping[str, Any] = ASKED, *, alone: bool = True) -> tuple[bool, list[str]]:
    return settled(folder, asked, common(TrainConfig.of({}).resolved()), alone)


def rewrite(file: Path, *path: str, value: Any = None) -> None:
    """Replaces a value in a file of JSON, or removes it."""
    found = inside = json.loads(file.read_text(encoding="utf-8"))
    for name in path[:-1]:
        inside = inside[name]
    inside[path[-1]] = value
    if value is None:
        del inside[path[-1]]
    file.write_text(json.dumps(found), encoding="utf-8")


def begun_earlier(folder: Path, *idle_turns: int | None) -> None:
    """Leaves behind what a version that did not record options leaves: settings, a start, and a run for each limit."""
    settle(folder)
    rewrite(folder / "settings.json", "options")
    for name, limit, more in [("start", 3, {"steps": 0, "eval_questions": 1})] + [
        (f"arpo-seed{seed}", limit, {}) for seed, limit in enumerate(idle_turns)
    ]:
        run = folder / "SearchMini-v0" / name
        run.mkdir(parents=True)
        TrainConfig.of({"output": run, **more}).resolved().save(run)
        rewrite(run / "config.json", "limits", "idle_turns", value=limit)


def test_other_settings_are_refused_and_running_side_by_side_is_remembered(tmp_path):
    assert settle(tmp_path) == (True, [])
    assert settle(tmp_path, alone=False) == settle(tmp_path) == (False, [])
    with pytest.raises(ConfigError, match="begun with budget_calls 20000, not 500"):
        settle(tmp_path, ASKED | {"budget_calls": 500})


def test_what_another_version_began_goes_on_with_the_defaults_of_then(tmp_path):
    begun_earlier(tmp_path, None, None)
    for _ in range(2):  # also once they are in the settings
        assert settle(tmp_path)[1] == ["--idle-turns", "0"]
    assert json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))["options"]["idle_turns"] == 0


@pytest.mark.parametrize("runs", [(), (3, 3)])
def test_nothing_is_brought_back_where_nothing_has_changed(tmp_path, runs):
    begun_earlier(tmp_path, *runs)
    assert settle(tmp_path)[1] == []


def test_runs_of_versions_with_different_defaults_are_not_compared(tmp_path):
    begun_earlier(tmp_path, None, 3)
    with pytest.raises(ConfigError, match=r"arpo-seed1 was begun with idle_turns 3, not 0 as .*arpo-seed0\. Runs with "):
        settle(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("eval_args", ["split=validation"]), ("patience", 3)])
def test_a_default_of_then_that_no_option_can_bring_back_is_named(tmp_path, name, value):
    settle(tmp_path)
    rewrite(tmp_path / "settings.json", "options", name, value=value)
    with pytest.raises(ConfigError, match=f"begun with {name} "):
        settle(tmp_path)


def test_every_option_in_common_is_one_of_arpo_train():
    options = common(TrainConfig.of({}).resolved())
    assert {"prompts", "idle_turns", "learning_rate", "eval_args", "temperature"} <= options.keys() <= OPTIONS.keys()
    assert not {"env", "algorithm", "rollouts", "roots", "probe", "seed"} & options.keys()
