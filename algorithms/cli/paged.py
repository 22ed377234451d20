"""What the run's page says besides trees: the curves, and the texts of tokens."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from arpo_envs import ConfigError


class Curves:
    """The metrics of a run's steps, as far as they are written.

    Args:
        file: of lines of JSON; may be missing.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._at = file, 0
        self.lines: list[dict[str, Any]] = []
        """Of each step."""
        self.look()

    def look(self) -> bool:
        """Looks for lines that were written since; returns whether those from before still hold."""
        size = self._file.stat().st_size if self._file.is_file() else 0
        is_same = size >= self._at
        if not is_same:  # a resumed run has dropped some
            self._at, self.lines = 0, []
        if size > self._at:
            with self._file.open("rb") as file:
                file.seek(self._at)
                for line in file:
                    if not line.endswith(b"\n"):  # it is still being written
                        break
                    self._at += len(line)
                    with suppress(ValueError):  # one that a full disk has cut off
                        self.lines.append(json.loads(line))
        return is_same


class Words:
    """The texts of tokens.

    Args:
        folder: of the policy; while there is no tokenizer in it, nothing is known.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._tokenizer, self._lock = folder, None, Lock()
        self._known: dict[int, str] = {}

    def of(self, ids: Iterable[int]) -> Mapping[int, str] | None:
        """Returns the text of each token; None without a tokenizer, so that the page shows ids."""
        with self._lock:
            tokenizer = self._tokenizer = self._tokenizer or self._loaded()
            if tokenizer is None:
                return None
            wanted = sorted(set(ids))
            for one in wanted:
                if one not in self._known:
                    self._known[one] = str(tokenizer.decode([one], skip_special_tokens=False))
            return {one: self._known[one] for one in wanted}

    def _loaded(self) -> Any:
        if not self._folder.is_dir():
            return None
        from ..models.loading import load_tokenizer

        try:
            return load_tokenizer(self._folder)
        except ConfigError:
            return None
