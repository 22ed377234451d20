"""What a run's trackers have in the end: every metric of every step, tables, held-out results, the files of the report."""

import base64
import json
import math
import re
import shutil
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from test_cli_train import arguments, assert_equal_runs, said
from tracked_files import WandbRun, events, scalars

from algorithms.cli import main, tracked
from algorithms.cli.config import TrainConfig
from algorithms.cli.tracked_tables import WITHHELD, rollout_rows
from algorithms.models.loading import load_tokenizer
from algorithms.tracking import TensorboardTracker
from algorithms.tracking.trees import read_trees
from arpo_envs import ConfigError

pytestmark = pytest.mark.usefixtures("wide_terminal")
STEPS = 3


@pytest.fixture
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Takes away what would bring a run of the tests to a server."""
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def offline(run: Path) -> WandbRun:
    (folder,) = (run / "wandb").glob("offline-run-*")
    return WandbRun(folder)


def assert_whole(run: Path, kept: WandbRun) -> None:
    """Everything that the run has in its own files is in wandb's."""
    for line in lines(run):
        step = kept.history[int(line.pop("step"))]
        assert {name: step[name] for name in line} == {name: "NaN" if value is None else value for name, value in line.items()}
    for when in ("before", "after"):
        for name, value in json.loads((run / f"{when}.json").read_text(encoding="utf-8")).items():
            assert kept.summary[f"{when}/{name}"] == value
    assert "after/closed_book" in kept.summary
    held_out = kept.table(STEPS - 1, "held_out")
    assert {(row["when"], row["result"]) for row in held_out} >= {
        (w, r) for w in ("before", "after") for r in ("sampled", "greedy")
    }
    assert all(row["low"] <= row["mean"] <= row["high"] for row in held_out if row["low"] is not None)
    for step in range(STEPS):
        rollouts = kept.table(step, "rollouts")
        assert len(rollouts) == 4 * 6
        assert {row["step"] for row in rollouts} == {step}
        assert np.mean([row["reward"] for row in rollouts]) == pytest.approx(kept.history[step]["reward"])
        assert all(row["question"].endswith("?") for row in rollouts)
        assert any("<search>" in row["rollout"] for row in rollouts)
        assert any(row["tool"] == "search" and row["position"] == 1 for row in kept.table(step, "entropy_around_results"))
    assert kept.files >= {"summary.json", "training.png", "report.html"}
    assert kept.config["algorithm"] == "arpo"


@pytest.mark.slow
def test_wandb_has_everything_and_runs_offline_when_there_is_no_key(finished, tiny_policy, tmp_path, no_account):
    pytest.importorskip("wandb")
    run = tmp_path / "run"
    assert main(arguments(tiny_policy, run, "--checkpoint-every", "1", "--track", "wandb", steps=STEPS)) == 0
    kept = offline(run)
    assert kept.id == (run / "wandb_id").read_text(encoding="utf-8")
    assert_whole(run, kept)
    assert_equal_runs(finished, run)


class Broken(BaseHTTPRequestHandler):
    """A server on which everything goes wrong."""

    def do_POST(self) -> None:
        self.send_error(500)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Prints nothing."""


@contextmanager
def served(how: str) -> Iterator[str]:
    """Gives the address of a server that refuses every connection, never answers, or only fails."""
    if how == "fails":
        with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
            thread.join()
        return
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if how == "never answers":
            listening.listen(50)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.parametrize("server", ["refuses", "never answers", "fails"])
def test_a_server_that_cannot_be_used_costs_nothing(server, finished, tiny_policy, tmp_path, no_account, monkeypatch, capsys):
    pytest.importorskip("wandb")
    run = tmp_path / "run"
    with served(server) as address:
        monkeypatch.setenv("WANDB_BASE_URL", address)
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        more = ("--checkpoint-every", "1", "--track", "wandb", "--wandb-mode", "online")
        assert main(arguments(tiny_policy, run, *more, steps=STEPS)) == 0
    assert "wandb: its server cannot be used" in said(capsys)
    assert_whole(run, offline(run))
    assert_equal_runs(finished, run)


@pytest.mark.slow
def test_a_resumed_run_continues_in_wandb(tiny_policy, tmp_path, no_account):
    pytest.importorskip("wandb")
    run = tmp_path / "run"
    assert main(arguments(tiny_policy, run, "--track", "wandb", steps=1)) == 0
    assert main(["train", "--resume", str(run), "--steps", "2"]) == 0
    kept = [WandbRun(folder) for folder in sorted((run / "wandb").glob("offline-run-*"))]
    assert len({one.id for one in kept}) == 1
    assert sorted(step for one in kept for step, row in one.history.items() if "reward" in row) == [0, 1]


def test_wandb_must_be_able_to_be_online_when_it_is_asked_to(tiny_policy, tmp_path, no_account, capsys):
    pytest.importorskip("wandb")
    assert main(arguments(tiny_policy, tmp_path / "run", "--track", "wandb", "--wandb-mode", "online")) == 2
    assert "wandb cannot be online without an API key" in said(capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--wandb-mode", "offline"], "--wandb-mode would have no effect without --track wandb"),
        (["--track", "tensorboard", "--wandb-mode", "offline"], "--wandb-mode would have no effect without --track wandb"),
        (["--track-gated"], "--track-gated would have no effect without --track"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(words, message, tmp_path, capsys):
    assert main(["train", "--output", str(tmp_path / "run"), *words]) == 2
    assert message in said(capsys)


@pytest.mark.slow
def test_tensorboard_has_every_metric_of_every_step_and_the_held_out_results(tiny_policy, tmp_path):
    pytest.importorskip("tensorboardX")
    run = tmp_path / "run"
    assert main(arguments(tiny_policy, run, "--track", "tensorboard", steps=1)) == 0
    assert main(["train", "--resume", str(run), "--steps", "2"]) == 0
    found = scalars(run / "tensorboard")
    for line in lines(run):
        step = int(line.pop("step"))
        got, wanted = [found[name][step] for name in line], [math.nan if v is None else v for v in line.values()]
        np.testing.assert_allclose(got, np.float32(wanted), rtol=0)
    after = json.loads((run / "after.json").read_text(encoding="utf-8"))
    assert found["after/greedy"][1] == np.float32(after["greedy"])
    assert found["after/greedy_low"][1] == np.float32(after["greedy_interval"][0])
    assert {"rollouts/text_summary", "entropy_around_results/text_summary", "held_out/text_summary"} <= found.keys()


def test_a_resumed_run_replaces_the_steps_it_repeats_in_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    for first, reward in ((0, 0.25), (1, 0.5)):
        tracker = TensorboardTracker(tmp_path / str(first), first)
        tracker.summary({"before/greedy": 0.5, "before/greedy_interval": [0.25, 0.75]})
        for step in range(first, 3):
            tracker.log(step, {"reward": reward, "loss": math.nan})
        tracker.close()
    found = scalars(tmp_path / "1")
    assert found["reward"] == {1: 0.5, 2: 0.5}
    assert {name: found[f"before/greedy{name}"] for name in ("", "_low", "_high")} == {
        "": {1: 0.5}, "_low": {1: 0.25}, "_high": {1: 0.75}}  # fmt: skip
    assert [event.step for event in events(tmp_path / "1") if event.session_log.status == event.session_log.START] == [1]
    assert not [event for event in events(tmp_path / "0") if event.session_log.status == event.session_log.START]


def test_a_resumed_run_shows_no_interval_in_tensorboard_that_was_infinite(tmp_path):
    pytest.importorskip("tensorboardX")
    tracker = TensorboardTracker(tmp_path)
    tracker.summary({"before/greedy_env/clicks": 5.0, "before/greedy_env/clicks_interval": [None, None]})
    tracker.log(0, {"held_out/greedy_env/clicks": 5.0, "held_out/greedy_env/clicks_low": None})
    tracker.close()
    assert scalars(tmp_path) == {f"{where}/greedy_env/clicks": {0: 5.0} for where in ("before", "held_out")}


def test_a_table_of_tensorboard_holds_what_models_write_in_its_cells(tmp_path):
    pytest.importorskip("tensorboardX")
    tracker = TensorboardTracker(tmp_path)
    tracker.table("rollouts", [{"text": "<script>1</script> | a\n| b", "reward": None}, {"reward": 1.0}])
    tracker.close()
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    assert b"| text | reward |\n| --- | --- |\n| &lt;script>1&lt;/script> &#124; a<br>&#124; b |  |\n|  | 1.0 |" in content


QUESTION, ANSWER = "How many qwertzuiopic zymurgists?", "Xylopyrography"
"""Of a gated benchmark, in words that nothing else holds."""
SECRET = {"qwertzuiop", "zymurgists", ANSWER}


def gated_run(policy: Path, folder: Path, *more: str) -> Path:
    """Trains on one question whose answer the tool tells."""
    folder.mkdir()
    task = {"id": "qwertzuiop-1", "question": QUESTION, "answer": ANSWER, "canary": "qwertzuiop:2"}
    names = " ".join(load_tokenizer(policy).get_vocab()).replace("▁", " ")  # whatever the policy searches for finds it
    document = {"id": "1", "title": ANSWER, "text": names}
    for name, row in (("tasks", task), ("corpus", document)):
        (folder / name).write_text(json.dumps(row) + "\n", encoding="utf-8")
    asks = ["--env", "ARPO/Search-v0", "--env-args", f"tasks={folder / 'tasks'}", f"corpus={folder / 'corpus'}"]
    words = [*asks, "--train-args", "--eval-args", "--prompts", "2", "--rollouts", "4", "--steps", "1", "--eval-questions", "1"]
    assert main(["train", "--policy", str(policy), "--output", str(folder / "run"), *words, *more]) == 0
    return folder / "run"


def told(folder: Path) -> set[str]:
    """Returns which words of the question, its name and its answer the bytes of any file hold, unpacked where it is a page."""
    files = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    blocks = [block for content in files for block in re.findall(rb'<script type="[^"]*" id="[^"]*">([^<]*)<', content)]
    files += [zlib.decompress(base64.b64decode(block)) for block in blocks]
    return {word for word in SECRET if any(word.encode() in content for content in files)}


def passed_on(run: Path, folder: Path, *words: str) -> tuple[list[int], set[str]]:
    """Returns how report and export ended, and which of the words they have written."""
    folder.mkdir()
    ends = [main(["report", str(run), "--output", str(folder / "page.html"), *words])]
    ends.append(main(["export", str(run), "--output", str(folder / "documents"), *words]))
    return ends, told(folder)


@pytest.mark.slow
@pytest.mark.parametrize("tracker", ["wandb", "tensorboard"])
def test_no_file_of_a_tracker_holds_a_word_of_a_gated_question_unless_asked(tracker, tiny_policy, tmp_path, no_account):
    for package in ({"wandb": "wandb", "tensorboard": "tensorboardX"}[tracker], "atif"):
        pytest.importorskip(package)
    shut = gated_run(tiny_policy, tmp_path / "shut", "--track", tracker)
    sent = gated_run(tiny_policy, tmp_path / "sent", "--track", tracker, "--track-gated")
    assert list((shut / tracker).iterdir())
    assert (told(sent / tracker), told(shut / tracker)) == (SECRET, set())
    assert [(run / "report.html").exists() for run in (sent, shut)] == [tracker == "wandb", False]
    for number, run in enumerate((shut, sent)):
        assert passed_on(run, tmp_path / f"closed {number}") == ([2, 2], set()), "what a tracker may have is not for a page"
        assert passed_on(run, tmp_path / f"asked {number}", "--include-gated") == ([0, 0], SECRET)


def test_what_is_withheld_leaves_only_numbers(finished):
    trees = list(read_trees(finished / "trees.jsonl.zst"))[:4]
    open_rows, rows = (rollout_rows(0, trees, withheld=lambda _, it=it: it) for it in (False, True))
    texts = {"task", "question", "rollout"}
    assert {row[name] for row in rows for name in texts} == {WITHHELD}
    drop = [{name: value for name, value in row.items() if name not in texts} for row in open_rows]
    assert drop == [{name: value for name, value in row.items() if name not in texts} for row in rows]
    words = {tree.nodes[0].text for tree in trees} | {
        node.text.strip() for tree in trees for node in tree.nodes if node.text.strip()
    }
    assert not [word for word in words if word in json.dumps(rows)]
    assert {row["question"] for row in open_rows} == {tree.nodes[0].text for tree in trees}


class Kept:
    """A tracker that notes which files it is given."""

    def __init__(self) -> None:
        self.files: list[str] = []

    def file(self, path):
        self.files.append(path.name)


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (None, None),
        (ConfigError("Nothing is left to write."), None),
        (OSError(5, "Input/output error"), "is not kept: OSError"),
        (MemoryError(), "is not kept: MemoryError"),
    ],
)
def test_the_page_that_a_tracker_gets_is_the_runs_own_and_its_faults_harm_nothing(finished, tmp_path, monkeypatch, fault, line):
    run, lines, kept = tmp_path / "run", [], Kept()
    shutil.copytree(finished, run)
    (run / "report.html").write_text("of somebody else, with --include-gated", encoding="utf-8")
    monkeypatch.setattr(tracked, "Guarded", lambda *given: kept)
    if fault is not None:

        def fails(*given):
            raise fault

        monkeypatch.setattr(tracked, "page_of", fails)
    config = replace(TrainConfig.load(run), track="wandb")
    tracked.Tracked(config, run, 0, lines.append).report(lambda what: None)
    assert kept.files == ["summary.json", "training.png", *(["report.html"] if fault is None else [])]
    assert ("somebody else" in (run / "report.html").read_text(encoding="utf-8")) == (fault is not None)
    assert len(lines) == (line is not None)
    assert all(line in told for told in lines)
