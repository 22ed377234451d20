"""`arpo bench gpu`: all measures one after the other, in processes that may fail, within a time, into one record."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from arpo_envs import ConfigError
from arpo_envs.errors import unknown_name

from ...durable import write_text
from ...metrics import as_json
from .measures import MEASURES, Measure, Numbers, Setting, Sizes

WORKER = (sys.executable, "-m", f"{__package__}.worker")
STYLES = {"measured": "green", "skipped": "yellow", "broken": "bold red", "failed": "bold red"}


@dataclass(frozen=True)
class GpuBench:
    """Measure everything that only a GPU can show."""

    device: str = "cuda"
    """cuda, or cuda:N for one of several; cpu to see that it runs."""
    sizes: Sizes = "full"
    """full, or toy: models so small that each measure takes seconds."""
    only: tuple[str, ...] = ()
    """Names of measures, or beginnings of them (default: all)."""
    seconds: float = 450.0
    """Seconds for all measures; those that do not fit are left out, and named."""
    tests: Path | None = None
    """File of tests that need a GPU, which pytest runs first."""
    json: Path | None = None
    """File for the record, written anew after each measure."""

    def __post_init__(self) -> None:
        """Checks the time."""
        if self.seconds <= 0.0:
            raise ConfigError(f"seconds must be above 0, got {self.seconds}.")

    @property
    def patience(self) -> float:
        """Times the seconds of a measure that it is given: they are those of a GPU."""
        return 1.0 if self.device.startswith("cuda") else 10.0

    @property
    def setting(self) -> Setting:
        """What a measure is told."""
        return Setting(self.device, self.sizes, "" if self.tests is None else str(self.tests))

    def chosen(self) -> list[Measure]:
        """Returns what is to be measured.

        Raises:
            ConfigError: no measure is called like that.
        """
        for name in self.only:
            if not any(one.name.startswith(name) for one in MEASURES):
                raise unknown_name("measure", name, [one.name for one in MEASURES])
        return [one for one in MEASURES if not self.only or one.name.startswith(self.only)]


@dataclass
class Record:
    """What was found so far, and where it is kept.

    Args:
        config: what was asked for.
        console: where each entry is shown.
    """

    config: GpuBench
    console: Console
    machine: Numbers = field(default_factory=dict)
    entries: dict[str, Numbers] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """How many seconds there are."""
        return self.began + self.config.seconds - time.monotonic()

    def add(self, name: str, entry: Numbers) -> None:
        """Takes an entry, shows it and writes everything; a file is replaced only if anything was measured."""
        self.entries[name] = entry
        outcome = str(entry["outcome"])
        rest = {key: value for key, value in entry.items() if key not in ("outcome", "reason")}
        said = str(entry.get("reason", "")) or ", ".join(f"{key} {value}" for key, value in rest.items())
        self.console.print(f"[{STYLES[outcome]}]{outcome:8}[/] [bold]{escape(name)}[/]: {escape(said)}")
        if self.config.json is not None and self.counts["skipped"] < len(self.entries):
            self.config.json.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.config.json, json.dumps(as_json(self.whole()), indent=2, ensure_ascii=False) + "\n")

    def whole(self) -> Mapping[str, Any]:
        """Returns the record as it is written."""
        taken = {"sizes": self.config.sizes, "seconds": round(time.monotonic() - self.began, 1)}
        return self.machine | taken | {"measures": self.entries}

    @property
    def counts(self) -> Counter[str]:
        """How many entries have each outcome."""
        return Counter(str(entry["outcome"]) for entry in self.entries.values())

    @property
    def status(self) -> int:
        """The exit status."""
        counts = self.counts
        return 0 if counts["measured"] and not counts["broken"] + counts["failed"] else 1


def run(config: GpuBench, console: Console, worker: Sequence[str] = WORKER) -> int:
    """Measures, and returns the exit status.

    Args:
        config: what to measure.
        console: where each entry is shown.
        worker: the command that measures; see `worker.main`.

    Raises:
        ConfigError: no measure is called like that.
    """
    record = Record(config, console)
    for _, group in groupby(config.chosen(), key=lambda measure: measure.group):
        waiting = list(group)
        while waiting:
            if reason := str(record.machine.get("absent", "")) or ("out of time" if record.left <= 0.0 else ""):
                record.add(waiting.pop(0).name, {"outcome": "skipped", "seconds": 0.0, "reason": reason})
            else:
                waiting = measured(record, waiting, worker)
    counts = ", ".join(f"{record.counts[outcome]} {outcome}" for outcome in STYLES)
    console.print(f"{counts}, in {time.monotonic() - record.began:.0f} s on {record.machine.get('device', 'no device')}.")
    return record.status


def measured(record: Record, waiting: Sequence[Measure], worker: Sequence[str]) -> list[Measure]:
    """Measures one after the other in one process, until it ends, and returns what is left to measure."""
    left = list(waiting)
    command = [*worker, json.dumps(asdict(record.config.setting)), *(measure.name for measure in left)]
    with lines_of(command) as line:
        while left:
            own, began = left[0].seconds * record.config.patience, time.monotonic()
            limit = min(own, record.left)
            try:
                found, reason = line(limit), "its process ended, see above"
            except queue.Empty:
                found, reason = None, "out of time" if limit < own else f"not done after {limit:.0f} s"
            if found is not None and "outcome" in found:
                record.add(left.pop(0).name, found)
            elif found is not None:
                record.machine |= found
            elif "absent" in record.machine:
                return left
            else:
                outcome = "skipped" if reason == "out of time" else "failed"
                taken = round(time.monotonic() - began, 1)
                record.add(left.pop(0).name, {"outcome": outcome, "seconds": taken, "reason": reason})
                return left
    return left


@contextlib.contextmanager
def lines_of(command: Sequence[str]) -> Iterator[Callable[[float], Numbers | None]]:
    """Starts a process, and kills it and its own at the end.

    Gives a function that returns its next line of JSON, or None when it has ended; it takes the most seconds to wait, and
    raises `queue.Empty` after that.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True)
    written: queue.Queue[str | None] = queue.Queue()
    output = process.stdout
    assert output is not None

    def read() -> None:
        for line in output:
            written.put(line)
        written.put(None)

    def following(seconds: float) -> Numbers | None:
        line = written.get(timeout=max(0.0, seconds))
        return None if line is None else json.loads(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield following
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # an engine that it has started, too
        process.wait()
        reader.join()
        output.close()
