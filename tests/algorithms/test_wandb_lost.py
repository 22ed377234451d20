"""A server of wandb that is lost in the middle of a run: nothing waits for it, and what it does not get can be sent later."""

import os
import re
import shlex
import subprocess
import sys
import time
from functools import partial

import pytest
from tracked_files import WandbRun
from wandb_server import WandbServer, wandb_server

from algorithms.tracking import Guarded, WandbTracker

BEFORE, STEPS = 5, 30


def account(server: WandbServer) -> dict[str, str]:
    """Returns what makes wandb use a server, and send history every second instead of every 15."""
    return {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "x" * 40, "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1"}


def metrics(step: int) -> dict[str, float]:
    return {"reward": step / 8, "loss": -step / 4}


def is_whole(history: dict[int, dict[str, float]]) -> bool:
    return {step: {name: row[name] for name in metrics(step)} for step, row in history.items() if "loss" in row} == {
        step: metrics(step) for step in range(STEPS)
    }


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["dies", "hangs", "fails"])
def test_a_server_that_is_lost_in_the_middle_costs_no_step_and_no_metric(trouble, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    told: list[str] = []
    with wandb_server() as server:
        for name, value in account(server).items():
            monkeypatch.setenv(name, value)
        maker = partial(WandbTracker, "project", "name", tmp_path / "a run", {}, "1", mode="online")
        (tmp_path / "a run").mkdir()
        tracker = Guarded("wandb", maker, told.append, patience=8.0)
        for step in range(BEFORE):
            tracker.log(step, metrics(step))
        while BEFORE - 2 not in server.history:  # wandb sends a step when the next one has begun
            time.sleep(0.05)
        server.trouble = trouble
        if trouble == "dies":
            server.shutdown()
            server.server_close()
        for step in range(BEFORE, STEPS):
            tracker.log(step, metrics(step))
            tracker.table("rollouts", [{"step": step}])  # for which wandb needs its server
        (folder,) = (tmp_path / "a run" / "wandb").glob("run-*")
        while STEPS - 2 not in WandbRun(folder).history:  # it goes on while the server does not
            time.sleep(0.05)
        tracker.close()
    assert is_whole(WandbRun(folder).history)
    table, waiting = told[:-1]
    assert "Metrics go on; tables are left out" in table, "once, not at every step"
    assert waiting == "waiting for wandb, at most 8 s"
    found = re.fullmatch(
        r"wandb had not finished .* Send it later: (wandb sync .*)\. metrics\.jsonl has everything\.", told[-1]
    )
    assert found is not None
    assert str(folder) in found[1]
    with wandb_server() as server:
        words = [sys.executable, "-m", *shlex.split(found[1])]
        subprocess.run(words, env=os.environ | account(server), capture_output=True, check=True)
        assert is_whole(server.history)


def test_a_run_that_keeps_nothing_has_nothing_to_send_later(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    tracker = WandbTracker("project", "name", tmp_path, {}, "1", mode="disabled")
    assert tracker.later == ""
    tracker.close()
