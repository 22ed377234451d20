"""Metrics on disk, and cutting a file back to the step a run goes on from."""

import io
import json
import math
import sys

import numpy as np
import pytest
from rich.console import Console

from algorithms.cli.config import TrainConfig
from algorithms.cli.summary import report
from algorithms.tracking import JsonlTracker, WandbTracker, has_key, keep_steps_before, log_all
from arpo_envs import ConfigError


def test_one_line_per_step_and_a_new_tracker_goes_on_in_the_same_file(tmp_path):
    file = tmp_path / "metrics.jsonl"
    first, second = JsonlTracker(file), JsonlTracker(tmp_path / "other.jsonl")
    log_all([first, second], 0, {"reward": 0.5})
    first.close()
    JsonlTracker(file).log(1, {"reward": 1.0})
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 0, "reward": 0.5}, {"step": 1, "reward": 1.0}]
    assert (tmp_path / "other.jsonl").read_text(encoding="utf-8") == lines[0] + "\n"


def test_what_is_no_number_is_null(tmp_path):
    file = tmp_path / "metrics.jsonl"
    JsonlTracker(file).log(0, {"loss": math.nan, "mismatch_kl": math.inf, "reward": np.float32(0.5), "entropy": -math.inf})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    (line,) = file.read_text(encoding="utf-8").splitlines()
    assert json.loads(line, parse_constant=refuse) == {
        "step": 0, "loss": None, "mismatch_kl": None, "reward": 0.5, "entropy": None}  # fmt: skip


def test_a_report_reads_what_was_no_number(tmp_path, real_pictures):
    config = TrainConfig(output=tmp_path, steps=2).resolved()
    calls = ("executed_tool_calls_per_prompt", "inherited_tool_calls_per_prompt")
    shown = dict.fromkeys(("success", *calls, "entropy", "forks_per_prompt", "equal_reward_groups", "reward"), 0.5)
    for step, entropy in enumerate((math.nan, 1.0)):
        JsonlTracker(tmp_path / "metrics.jsonl").log(step, {**shown, "entropy": entropy, "forks_per_prompt": entropy})
    measured = dict.fromkeys(("sampled", "greedy"), 0.5) | {f"{name}_interval": [0.4, 0.6] for name in ("sampled", "greedy")}
    report(config, tmp_path, measured, measured, None, 1.0, Console(file=io.StringIO()))
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["forks_per_prompt"] is None
    assert (tmp_path / "training.png").stat().st_size > 1000


@pytest.mark.parametrize("torn", [b"", b'{"step": 2, "rew', b'{"step": 1, "reward": 1.0}', b'{"step": 1, "text": "\xc3'])
def test_steps_to_come_and_a_torn_last_line_are_dropped(torn, tmp_path):
    file = tmp_path / "metrics.jsonl"
    # a line separator of Unicode inside a text does not end the line of a JSONL file
    lines = [f'{{"step": {step}, "text": "ü\u2028"}}\n' for step in range(4)]
    file.write_bytes("".join(lines).encode() + torn)
    keep_steps_before(file, 2)
    assert file.read_text(encoding="utf-8") == "".join(lines[:2])
    keep_steps_before(file, 0)
    assert file.read_text(encoding="utf-8") == ""
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_file_that_is_not_there_stays_so(tmp_path):
    keep_steps_before(tmp_path / "missing.jsonl", 3)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def no_account(tmp_path, monkeypatch):
    """Takes away what would tell wandb its server and its key."""
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))


@pytest.mark.usefixtures("no_account")
def test_a_key_is_found_in_the_environment_or_in_netrc(tmp_path, monkeypatch):
    assert not has_key()
    (tmp_path / "netrc").write_text("machine api.example.org login user password x\n", encoding="utf-8")
    assert not has_key()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n", encoding="utf-8")
    assert has_key()
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert has_key()


@pytest.mark.usefixtures("no_account")
def test_a_key_is_that_of_the_server_which_wandb_uses(tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine wandb.example.org:8080 login user password x\n", encoding="utf-8")
    assert not has_key(), "it is another server's"
    (tmp_path / "settings").write_text("[default]\nbase_url = https://wandb.example.org:8080\n", encoding="utf-8")
    assert has_key(), "as after wandb login --host"
    monkeypatch.setenv("WANDB_BASE_URL", "https://other.example.org")
    assert not has_key(), "the environment matters more"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080/")
    (tmp_path / "settings").write_text("no settings", encoding="utf-8")
    assert has_key()
    netrc.write_text("machine wandb.example.org:8080", encoding="utf-8")
    assert not has_key()


def test_without_wandb_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install 'arpo-envs\[wandb\]'"):
        WandbTracker("project", "name", tmp_path, {}, "id")
