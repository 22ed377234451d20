"""What takes a place is on the disk before it does: a power failure leaves the old or the new, never an empty file."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from model_toys import byte_tokenizer, tiny_model

from algorithms.checkpoint import save
from algorithms.cli import main
from algorithms.durable import write_text
from algorithms.learner import TorchLearner

State = tuple[int, int]
"""Size and time of the last change."""


class Disk:
    """Remembers what was flushed, by inode, and complains about what takes a place before it was.

    Args:
        home: only what lies below it counts.
    """

    def __init__(self, home: Path) -> None:
        self.home, self.placed, self.early = home, list[str](), list[str]()
        self.flushed = dict[int, State]()
        self.recorded = dict[str, int]()
        """By what took its place: how many bytes of the run's metrics were flushed by then."""
        self.pending = set[int]()
        """Folders in which something took its place, and that were not flushed since."""

    def fsync(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        self.flushed[found.st_ino] = (found.st_size, found.st_mtime_ns)
        self.pending.discard(found.st_ino)

    def replace(self, source: Any, target: Any) -> None:
        source, target = Path(source), Path(target)
        if self.home not in target.parents:
            return
        name = target.relative_to(self.home).as_posix()
        self.placed.append(name)
        if (metrics := target.parents[1] / "metrics.jsonl").is_file():
            self.recorded[name], _ = self.flushed.get(metrics.stat().st_ino, (0, 0))
        self.early += [f"{target.name}: {path.name}" for path in inside(source) if not self.is_flushed(path)]
        self.pending.add(target.parent.stat().st_ino)

    def is_flushed(self, path: Path) -> bool:
        found = path.stat()
        return self.flushed.get(found.st_ino) == (found.st_size, found.st_mtime_ns)


def inside(path: Path) -> Iterator[Path]:
    """Yields a file, or a folder and everything in it; a link has nothing to flush."""
    if not path.is_symlink():
        yield path
        yield from (each for each in path.rglob("*") if not each.is_symlink())


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    seen, fsync, replace = Disk(tmp_path), os.fsync, os.replace

    def flushing(descriptor: int) -> None:
        fsync(descriptor)
        seen.fsync(descriptor)

    def replacing(source: Any, target: Any, **more: Any) -> None:
        seen.replace(source, target)
        replace(source, target, **more)

    monkeypatch.setattr("os.fsync", flushing)
    monkeypatch.setattr("os.replace", replacing)
    return seen


def test_a_file_is_flushed_before_it_takes_its_place_and_its_folder_after(disk: Disk, tmp_path: Path) -> None:
    for text in ("old", "new"):
        write_text(tmp_path / "file", text)
    assert (disk.placed, disk.early, disk.pending) == (["file"] * 2, [], set())


def test_so_is_everything_in_a_checkpoint(disk: Disk, tmp_path: Path) -> None:
    model, tokenizer = tiny_model(), byte_tokenizer()
    learner = TorchLearner(model)
    for step in (1, 2, 2):
        save(tmp_path, step, model, tokenizer, learner, {"seconds": 1.0})
    assert [place for place in disk.placed if place.startswith("checkpoints/step-")] == [
        "checkpoints/step-000001",
        "checkpoints/step-000002",
        "checkpoints/step-000002",
    ]
    assert disk.placed.count("policy") == 3
    assert (disk.early, disk.pending) == ([], set())


def test_a_checkpoint_never_knows_more_steps_than_the_records_on_the_disk(
    disk: Disk, tiny_policy: Path, tmp_path: Path
) -> None:
    small = ["--env-args", "cities_per_country=4", "--prompts", "2", "--rollouts", "2", "--roots", "1", "--eval-questions", "2"]
    steps = ["--steps", "2", "--checkpoint-every", "1"]
    assert main(["train", "--policy", str(tiny_policy), *small, *steps, "--output", str(tmp_path / "run")]) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    for step in (1, 2):
        assert disk.recorded[f"run/checkpoints/step-{step:06d}"] >= sum(map(len, lines[:step]))
    assert (disk.early, disk.pending) == ([], set())
