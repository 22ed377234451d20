"""The file of an evaluation: one answer per line, valid at every moment, and continued where a kill cut it off.

Questions are asked in blocks, and a finished block is written line by line. What a kill or a lost server left of an unfinished
one is dropped and made anew, so that the same answers are drawn side by side as if nothing had happened: they are the same to
the last bit.
"""

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from arpo_envs import ConfigError

from ..durable import sync, write_text
from .attempts import Attempt

Settings = Mapping[str, object]
"""What answers depend on, as plain JSON."""

_Place = tuple[int, int]
"""Question and sample."""
_Line = tuple[Attempt, bytes]
"""What a line says, and the line."""
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
        require_new(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.settings, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        self.path.touch(exist_ok=False)
        sync(self.path.parent)

    def resume(self, settings: Settings) -> list[Attempt]:
        """Returns the answers of all finished blocks in order, and drops what else is there.

        A block of which no answer says anything about the model counts as unfinished: its server may be back by now.

        Raises:
            ConfigError: there is no such file, or its answers depend on something else.
        """
        self._require(settings)
        blocks: dict[int, dict[_Place, _Line]] = defaultdict(dict)
        for place, line in self._lines().items():
            blocks[place[0] // self.block][place] = line
        return self._leave(
            {
                place: line
                for number, block in blocks.items()
                if self._is_finished(number, block)
                for place, line in block.items()
            }
        )

    def put_in_order(self) -> None:
        """Puts answers in the order of their questions, in which a block that was asked again was not written."""
        self._leave(self._lines())

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

    def _lines(self) -> dict[_Place, _Line]:
        lines = self.path.read_bytes().splitlines(keepends=True)
        return {(one.question, one.sample): (one, line) for line in lines if (one := _read(line)) is not None}

    def _leave(self, lines: Mapping[_Place, _Line]) -> list[Attempt]:
        """Has these lines and nothing else in the file, in order; returns what they say."""
        ordered = [lines[place] for place in sorted(lines)]
        text = b"".join(line for _, line in ordered)
        if text != self.path.read_bytes():
            write_text(self.path, text.decode("utf-8"))
        return [one for one, _ in ordered]

    def _is_finished(self, number: int, block: Mapping[_Place, _Line]) -> bool:
        asked = range(number * self.block, min((number + 1) * self.block, self.questions))
        places = {(question, sample) for question in asked for sample in range(self.samples)}
        return block.keys() == places and any(one.counts for one, _ in block.values())


def require_new(path: Path) -> None:
    """Finds out before the long work whether a file can be begun.

    Raises:
        ConfigError: it exists.
    """
    if path.exists():
        raise ConfigError(f"{path} exists. Continue it with --resume, or name another file.")


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
