"""The file of an evaluation: one answer per line, valid at every moment, and continued where a kill cut it off.

Questions are asked in blocks, and a finished block is written line by line. What a kill left of an unfinished one is dropped
and made anew, so that the same answers are drawn side by side as if nothing had happened: they are the same to the last bit.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from arpo_envs import ConfigError

from ..durable import sync, write_text
from .attempts import Attempt

Settings = Mapping[str, object]
"""What answers depend on, as plain JSON."""

_OLDER: Settings = {"prompt": "ours", "examples": 0, "idle_turns": 0}
"""What held for files of versions that did not write these settings."""


@dataclass(frozen=True)
class AttemptFile:
    """The answers of an evaluation; beside them, `<name>.settings` says what they depend on.

    Args:
        path: of the file.
        questions: how many are asked.
        samples: answers to each.
        block: how many questions are asked side by side.
    """

    path: Path
    questions: int
    samples: int
    block: int

    @property
    def settings(self) -> Path:
        """The file that says what the answers depend on."""
        return self.path.with_name(f"{self.path.name}.settings")

    def begin(self, settings: Settings) -> None:
        """Makes an empty file.

        Raises:
            ConfigError: it exists.
        """
        if self.path.exists():
            raise ConfigError(f"{self.path} exists. Continue it with --resume, or name another file.")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.settings, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        self.path.touch(exist_ok=False)
        sync(self.path.parent)

    def resume(self, settings: Settings) -> list[Attempt]:
        """Returns the answers of all finished blocks, and drops what follows them.

        A block of which no answer says anything about the model counts as unfinished: its server may be back by now.

        Raises:
            ConfigError: there is no such file, or its answers depend on something else.
        """
        self._require(settings)
        lines = self.path.read_bytes().splitlines(keepends=True)
        kept: list[Attempt] = []
        while block := self._finished(lines, len(kept)):
            kept += block
        with self.path.open("r+b") as file:
            file.truncate(sum(map(len, lines[: len(kept)])))
        sync(self.path)
        return kept

    def append(self, attempts: Sequence[Attempt]) -> None:
        """Adds answers, each line in one piece."""
        with self.path.open("ab", buffering=0) as file:
            for one in attempts:
                file.write(one.line().encode("utf-8", "backslashreplace"))  # a lone surrogate becomes an escape of JSON
            os.fsync(file.fileno())

    def _require(self, settings: Settings) -> None:
        """Refuses to continue what was made with other settings."""
        if not self.path.is_file():
            raise ConfigError(f"There is no file {self.path} to continue. Leave out --resume to begin it.")
        try:
            older = {name: value for name, value in _OLDER.items() if name in settings}
            before: dict[str, object] = older | json.loads(self.settings.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self.path} cannot be continued without {self.settings}, which cannot be read: {error}"
            ) from error
        now = json.loads(json.dumps(settings))
        if changed := sorted(name for name in {*before, *now} if before.get(name) != now.get(name)):
            told = ", ".join(f"{name} (was {before.get(name)!r:.60}, is {now.get(name)!r:.60})" for name in changed)
            raise ConfigError(
                f"{self.path} was made with other settings: {told}. Continue it with the same ones, or name another file."
            )

    def _finished(self, lines: Sequence[bytes], start: int) -> list[Attempt]:
        """Returns the answers of the block that begins at a line; none if it is not finished."""
        first = start // self.samples
        asked = range(first, min(first + self.block, self.questions))
        places = [(question, sample) for question in asked for sample in range(self.samples)]
        found = [_read(line) for line in lines[start : start + len(places)]]
        whole = [one for one in found if one is not None]
        is_finished = [(one.question, one.sample) for one in whole] == places
        return whole if is_finished and any(one.counts for one in whole) else []


def read_attempts(path: Path) -> list[Attempt]:
    """Returns the answers of an evaluation's file.

    Raises:
        ConfigError: it cannot be read, or a line is something else or was cut off by a kill.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}. It must be what `arpo eval --records` writes.") from error
    found = [_read(line) for line in lines]
    if None in found:
        raise ConfigError(
            f"{path}, line {found.index(None) + 1}: expected an answer as `arpo eval --records` writes it. "
            "If the evaluation was killed, continue it with --resume."
        )
    return [one for one in found if one is not None]


def _read(line: bytes) -> Attempt | None:
    """Returns the answer of a line; None if it is none, or was cut off."""
    try:
        return Attempt.read(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
