"""What a killed run has left is removed whatever comes next, and nothing else is: neither files nor processes."""

import asyncio
import getpass
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster_toys import Scripted, lives

from algorithms.cli import main, train
from algorithms.cli.config import TrainConfig
from algorithms.cluster import LEARNERS, clear, leftovers
from algorithms.cluster.leftovers import MEETING, READ, WORKERS, began, kill_group, make_recorded
from algorithms.cluster.local import LocalLauncher

PREFIX = "arpo-test-"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the folder that stands for the system's folder for temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def left_by_a_killed_run(run: Path) -> None:
    """Makes what engines and ranks have while a run is under way."""
    for home in (run, run / LEARNERS):
        made = make_recorded(home / WORKERS, PREFIX)
        (made / "1").mkdir()
        (made / "1" / "socket").touch()
        (home / WORKERS / "weights-000001-7").mkdir()
        (home / WORKERS / "weights-000001-7" / "model.safetensors").touch()
    (run / LEARNERS / f"{MEETING}1").touch()
    (run / LEARNERS / f"{READ}a").mkdir()
    (run / "metrics.jsonl").touch()


# --- files -----------------------------------------------------------------------------------------------------


def test_a_run_that_is_resumed_clears_what_the_killed_one_left_although_it_starts_no_processes(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    left_by_a_killed_run(run)
    TrainConfig.of({"cluster": "ray", "learners": 2, "output": run}).resolved().save(run)

    async def nothing(*given: Any) -> int:
        return 0

    monkeypatch.setattr(train, "_train", nothing)
    assert main(["train", "--resume", str(run), "--cluster", "none"]) == 0
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "metrics.jsonl"]
    assert not any(temporary.iterdir())


def test_a_launcher_clears_what_one_of_the_other_kind_left_but_nothing_of_ranks(tmp_path: Path, temporary: Path) -> None:
    left_by_a_killed_run(tmp_path)
    LocalLauncher(tmp_path)
    assert not (tmp_path / WORKERS).exists()
    assert len(list(temporary.iterdir())) == 1, "that of the ranks, which may be under way"
    assert sorted(path.name for path in (tmp_path / LEARNERS).iterdir()) == [WORKERS, f"{MEETING}1", f"{READ}a"]


def test_a_folder_of_the_users_is_not_touched(tmp_path: Path) -> None:
    for name in (f"{LEARNERS}/meeting-notes.txt", f"{WORKERS}/thesis.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    clear(tmp_path)
    assert (tmp_path / LEARNERS / "meeting-notes.txt").exists()
    assert (tmp_path / WORKERS / "thesis.txt").exists()


Named = Callable[[Path], bytes]


def _outside(folder: Path) -> bytes:
    return bytes(folder / f"{PREFIX}thesis")


def _up_and_down(folder: Path) -> bytes:
    return bytes(make_recorded(folder / "other" / WORKERS, PREFIX) / ".." / ".." / f"{PREFIX}thesis")


def _of_another_run(folder: Path) -> bytes:
    """As in a run's folder that was copied while the run was under way."""
    return bytes(make_recorded(folder / "other" / WORKERS, PREFIX))


def _linked(folder: Path) -> bytes:
    (folder / "tmp" / f"{PREFIX}link").symlink_to(folder / f"{PREFIX}thesis")
    return bytes(folder / "tmp" / f"{PREFIX}link")


@pytest.mark.parametrize(
    "named", [_outside, _up_and_down, _of_another_run, _linked, lambda folder: b"", lambda folder: b"\xff\0/"]
)
def test_what_a_record_names_is_kept_if_it_does_not_name_the_record(named: Named, tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}thesis").mkdir()
    (tmp_path / f"{PREFIX}thesis" / "chapter.txt").touch()
    make_recorded(tmp_path / "run" / WORKERS, PREFIX)
    (record,) = (tmp_path / "run" / WORKERS).iterdir()
    before = named(tmp_path)
    record.write_bytes(before)
    there = {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "run")}
    clear(tmp_path / "run")
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "run")} == there
    assert not record.exists()


def test_a_folder_that_belongs_to_another_user_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, user = make_recorded(tmp_path / WORKERS, PREFIX), os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    clear(tmp_path)
    assert made.is_dir()


def test_what_torch_compiles_stays_where_torch_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 7")

    for name in (getpass.getuser, lambda: 'a\\b:c"d', nobody):
        monkeypatch.setattr(getpass, "getuser", name)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        usual = default_cache_dir()
        leftovers.move_in(tmp_path / "own")
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == usual
        leftovers.move_in(tmp_path / "own" / "inner")
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == usual, "also of a process that such a one starts"


# --- processes -------------------------------------------------------------------------------------------------


@contextmanager
def leading(words: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Gives a process that leads a group."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, start_new_session=True, bufsize=0, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def test_another_process_that_has_the_number_of_a_dead_one_is_left_alone() -> None:
    with leading(["cat"]) as process:
        since = began(process.pid)
        assert since is not None
        assert process.stdin is not None
        assert process.stdout is not None
        for other in (b"%d" % (int(since) - 1), None):
            kill_group(process.pid, other)
            process.stdin.write(b"alive")
            assert process.stdout.read(5) == b"alive"
        kill_group(process.pid, since)
        assert process.wait(30.0) < 0
    assert began(process.pid) is None


def test_what_a_dead_process_has_started_is_killed() -> None:
    script = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid)"
    with leading([sys.executable, "-c", script]) as process:
        since = began(process.pid)
        assert process.stdout is not None
        inner = int(process.stdout.read())
        process.wait()
        assert lives(inner)
        kill_group(process.pid, since)
        assert _ends(inner)


def _ends(pid: int) -> bool:
    waiting = threading.Event()
    return any(not lives(pid) or waiting.wait(0.05) for _ in range(600))


@pytest.mark.timeout(60)
def test_nobody_waits_for_the_end_of_a_killed_worker_but_the_one_in_its_place_and_closing(tmp_path: Path) -> None:
    """Its end may take long: a driver frees its memory, a network does not answer."""
    freed, waited, asked = threading.Event(), [], []

    def dies_slowly(worker: Any) -> Any:
        usual = worker.executor.shutdown

        def shutdown(**given: Any) -> None:
            waited.append(freed.wait(5.0))
            usual(**given)

        worker.executor.shutdown = shutdown
        return worker

    async def run() -> None:
        launcher = LocalLauncher(tmp_path)
        worker = dies_slowly(launcher.create(Scripted()))
        launcher.kill(worker)
        assert waited == [], "the loop goes on"
        assert not await launcher.health(worker, 0.2), "lost, not an error"
        second = dies_slowly(launcher.create(Scripted()))
        usual = second.executor.submit
        second.executor.submit = lambda *given: (asked.append(freed.is_set()), usual(*given))[1]
        answer = asyncio.ensure_future(launcher.call(second, "forget"))
        await asyncio.sleep(0.2)
        assert worker.temporary.parent.is_dir()
        freed.set()
        assert (await answer).error is None
        assert (asked, waited) == ([True], [True]), "it may need what the first one had"
        freed.clear()
        launcher.kill(second)
        asyncio.get_running_loop().call_later(0.2, freed.set)
        await launcher.close()
        assert waited == [True, True]
        assert not worker.temporary.parent.exists()

    asyncio.run(run())


def test_a_folder_that_the_run_loses_meanwhile_is_no_error(tmp_path: Path, temporary: Path) -> None:
    make_recorded(tmp_path / WORKERS, PREFIX)
    shutil.rmtree(next(temporary.iterdir()))
    clear(tmp_path)
    assert not (tmp_path / WORKERS).exists()
