"""`arpo train --learners 2 --ahead 1`: ranks update while the next step is collected, and what is lost is collected again."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from made_once import made_once
from rank_toys import Counting
from test_cli_train import logged, said, same, weights
from test_cluster_learners import assert_learned_alike, assert_nothing_left, started, words
from test_cluster_ranks import Numbered, learn

from algorithms.checkpoint import latest
from algorithms.cli import main
from algorithms.cluster import (
    COUNTS,
    Ahead,
    LostForGood,
    Origin,
    Patience,
    RankedLearner,
    Ranks,
    StoredWeights,
    clear,
    write_published,
)
from algorithms.cluster.engines import Engine, Engines
from algorithms.learner import WeightSource
from algorithms.models.loading import load_policy
from algorithms.tracking.trees import read_trees

FILES = ("trees.jsonl.zst", "before.json", "after.json")


# --- weights that are kept, without any process --------------------------------------------------------------------


def written(folder: Path) -> dict[str, torch.Tensor]:
    """Writes tied weights into a folder, as they are published; returns them."""
    found = {"a": (both := torch.tensor([1.0, 2.0])), "b": both}
    write_published(WeightSource(found, tied=["b"]), folder)
    return found


@pytest.mark.parametrize("links", [True, False])
def test_kept_weights_take_no_room_where_files_can_be_linked(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> None:
        raise OSError("Invalid cross-device link")

    source, copy = tmp_path / "source", tmp_path / "copy"
    expected = written(source)
    with monkeypatch.context() as patched:
        if not links:
            patched.setattr(os, "link", refuse)
        write_published(StoredWeights(source), copy)
    (file,) = source.glob("*.safetensors")
    assert (file.stat().st_ino == (copy / file.name).stat().st_ino) == links
    found = StoredWeights(copy, ours=True)
    for other in source.iterdir():
        other.unlink()  # as published weights are withdrawn
    assert same(dict(found), expected)
    needed = found.kept()
    del found
    assert copy.is_dir(), "a checkpoint is still being written from it"
    del needed
    assert not copy.exists()


def read(found: StoredWeights) -> list[str]:
    """Returns what the ranks had learned when they wrote these weights."""
    (text,) = (file.read_text(encoding="utf-8") for file in found._folder.iterdir())
    return text.split(",")


def test_weights_are_written_once_for_engines_and_for_later(tmp_path: Path) -> None:
    ranks = Counting(iter([]))
    with closing(RankedLearner(ranks, Origin(Path()), lambda: Origin(Path()))) as learner:  # type: ignore[arg-type]
        ahead = Ahead[Any](9)
        learn(learner, 0)
        learner.weights().write(tmp_path / "1")
        ahead.keep(1, learner.weights())
        ahead.keep(1, learner.weights())
        assert (ranks.published, read(ahead.weights[1])) == (1, ["own", "step 0"])  # type: ignore[arg-type]
        learn(learner, 1)
        ahead.keep(2, learner.weights())
        assert (ranks.published, read(ahead.weights[2])) == (2, ["own", "step 0", "step 1"]), "engines had those before"  # type: ignore[arg-type]
        with learner.own.changed():
            learner.weights().write(tmp_path / "changed")
        assert read(learner.weights().kept()) == ["own", "step 0", "step 1"], "not those of a comparison"
        learner.weights().write(tmp_path / "2")
        (tmp_path / "2").rename(tmp_path / "gone")
        assert read(learner.weights().kept()) == ["own", "step 0", "step 1"]
        assert sorted(ranks.home.iterdir()) == sorted(kept._folder for kept in ahead.weights.values())  # type: ignore[attr-defined]
        ahead.forget_before(2)
        assert len(list(ranks.home.iterdir())) == 1


def test_a_run_that_is_broken_off_ends_an_update_in_another_thread_and_starts_no_ranks_for_it(tmp_path: Path) -> None:
    launcher = Numbered(dict.fromkeys(range(2), "mute"))
    ranks = Ranks(launcher, None, 2, tmp_path / "home", patience=Patience(silence=60.0))  # type: ignore[arg-type]
    ranks.begin(Origin(Path()))
    ended: list[BaseException] = []

    def update() -> None:
        try:
            ranks.call("update")
        except BaseException as error:
            ended.append(error)
            raise

    async def run() -> None:
        overlap = Ahead[str](2)
        learning = asyncio.ensure_future(overlap.alongside(update, 1, lambda: asyncio.sleep(60.0, "never")))
        while len(launcher.asked) < 2:
            await asyncio.sleep(0.01)
        learning.cancel()  # as a third Ctrl-C does
        with pytest.raises(asyncio.CancelledError):
            await learning
        assert overlap.is_updating
        await overlap.close()
        ranks.close()

    asyncio.run(run())  # it waits for its threads
    assert len(ended) == 1
    for again in (lambda: ranks.begin(Origin(Path())), lambda: ranks.call("update")):
        with pytest.raises(LostForGood, match="being ended"):
            again()
    assert launcher.alive == []


def test_what_a_killed_run_has_kept_is_removed_by_the_next_start(tmp_path: Path) -> None:
    written(tmp_path / "learners" / "kept-1")
    clear(tmp_path)
    assert not (tmp_path / "learners").exists()


# --- whole runs ----------------------------------------------------------------------------------------------------


def ahead(policy: Path, run: Path, learners: int = 2, steps: int = 3) -> list[str]:
    return [*words(policy, run, "arpo", learners, steps), "--ahead", "1"]


@pytest.fixture(scope="module")
def run_of(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Returns the run on so many ranks."""

    def made(learners: int) -> Path:
        found: Path = made_once(tmp_path_factory, f"ahead-{learners}", lambda run: _train(ahead(tiny_policy, run, learners)))
        return found

    return made


def _train(asked: list[str]) -> None:
    assert main(asked) == 0


def hold_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes it an error if this process, which leads a run, reads weights."""
    for name in ("cli.parts.load_policy", "cluster.published.weights_in", "cluster.held_on_ranks.weights_in", "learner.copied"):
        monkeypatch.setattr(f"algorithms.{name}", None)


def assert_same_run(run: Path, other: Path) -> None:
    for name in FILES:
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    lines = [[{name: it for name, it in line.items() if name not in COUNTS} for line in logged(one)] for one in (run, other)]
    assert lines[0] == lines[1]
    assert same(weights(run), weights(other))
    assert_nothing_left(run)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("wide_terminal")
def test_two_ranks_train_ahead_what_one_process_trains(run_of: Callable[[int], Path], tiny_policy: Path) -> None:
    one, two = run_of(1), run_of(2)
    assert_learned_alike(two, one, tiny_policy)
    trees, others = ([it for it in read_trees(run / FILES[0]) if it.meta["step"] < 2] for run in (two, one))
    assert trees == others, "those of the second step are of the first weights, too, so not a bit differs"
    assert [line["staleness"] for line in logged(two)] == [0.0, 1.0, 1.0]
    assert logged(two)[0].keys() == logged(one)[0].keys()
    assert_nothing_left(two)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("wide_terminal")
@pytest.mark.parametrize("struck", ["a rank", "a rank and the engine"])
def test_a_rank_that_is_killed_while_the_next_step_is_collected_changes_nothing(
    struck: str,
    run_of: Callable[[int], Path],
    tiny_policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the second update; its ranks take the first one once more, as there is no checkpoint yet."""
    updates, engines = list[int](), list[Engine]()
    collecting, killed = threading.Event(), threading.Event()
    update, collect = Ranks.call, Engines.call

    def strike(ranks: Ranks, method: str, *arguments: Any) -> Any:
        updates.extend([1] if method == "update" else [])
        if method == "update" and len(updates) == 2:
            assert collecting.wait(120.0), "the third step is collected meanwhile"
            os.kill(ranks._workers[1].process.pid, signal.SIGKILL)
            if struck != "a rank":
                os.kill(engines[0].worker.process.pid, signal.SIGKILL)
            killed.set()
        return update(ranks, method, *arguments)

    async def late(fleet: Engines, engine: Engine, method: str, *arguments: Any) -> Any:
        if method == "grow" and len(updates) == 2 and not killed.is_set():
            engines.append(engine)
            collecting.set()
            assert await asyncio.to_thread(killed.wait, 120.0)
        return await collect(fleet, engine, method, *arguments)

    hold_nothing(monkeypatch)
    monkeypatch.setattr(Ranks, "call", strike)
    monkeypatch.setattr(Engines, "call", late)
    run = tmp_path / "run"
    assert main(ahead(tiny_policy, run)) == 0
    told = said(capsys)
    assert "a rank of the learner was lost: Its process ended." in told
    assert "made anew, and took 1 updates once more" in told
    assert [line["engines_lost"] for line in logged(run)] == [0.0, 0.0, float(struck != "a rank")]
    assert_same_run(run, run_of(2))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("wide_terminal")
def test_a_run_on_ranks_that_is_killed_collects_again_what_was_under_way(
    run_of: Callable[[int], Path], tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    process = started([*ahead(tiny_policy, run), "--checkpoint-every", "1"], run, 1)
    while not list((run / "checkpoints").glob("step-*")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    process.kill()
    assert process.communicate()[0]
    done = latest(run)
    assert done is not None
    assert done.previous() is not None
    assert list((run / "learners").glob("kept-*")), "which the next start removes"
    torch.set_num_threads(1)
    hold_nothing(monkeypatch)
    assert main(["train", "--resume", str(run)]) == 0
    assert_same_run(run, run_of(2))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("wide_terminal")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_ranks_update_ends_the_run_after_that_and_any_number_of_ranks_continues(
    sent: signal.Signals, run_of: Callable[[int], Path], tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calls, usual = tmp_path / "run", list[int](), RankedLearner.update

    def struck(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), sent)
        return usual(*given)

    with monkeypatch.context() as patched:
        hold_nothing(patched)
        patched.setattr(RankedLearner, "update", struck)
        assert main(ahead(tiny_policy, run)) == 128 + sent
    assert_nothing_left(run)
    done = latest(run)
    assert done is not None
    assert (done.step, [line["step"] for line in logged(run)]) == (2, [0, 1]), "the update that had begun was finished"
    previous = done.previous()
    assert previous is not None
    first = [tree for tree in read_trees(run / FILES[0]) if tree.meta["step"] < 1]
    assert first, "of which the weights of before were learned"
    assert not same(dict(previous), load_policy(done.policy)[0].state_dict())
    assert not same(dict(previous), load_policy(tiny_policy)[0].state_dict())
    if sent == signal.SIGTERM:
        assert main(["train", "--resume", str(run)]) == 0
        assert_same_run(run, run_of(2))
    else:
        assert main(["train", "--resume", str(run), "--learners", "1"]) == 0
        assert_learned_alike(run, run_of(1), tiny_policy)
