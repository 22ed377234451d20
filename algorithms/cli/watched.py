"""A run that may still be written: what of it is known, and what has come since somebody asked."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from arpo_envs import ConfigError

from ..tracking.trees import TreeFile
from .gating import Gate, in_words
from .paged import Curves, Words
from .stored import Stored, file_of_trees
from .viewer import record, summary

_MOST = 1000
"""Lines in one answer, so that the first of a long run is there at once."""

_BREATH = 0.0005
"""Seconds between two trees, in which others get the lock."""

_REST = 0.25
"""Seconds without further reading after somebody looked at a tree: the browser needs the processor, and may ask for another."""


class Watched:
    """What a page is served of. Trees are read when they are looked at; a line about each is made by and by.

    Args:
        run: its folder, or a file of trees.
        include_gated: whether questions of gated benchmarks are shown.

    Raises:
        ConfigError: the file of trees is damaged before its end.
    """

    def __init__(self, run: Path, *, include_gated: bool = False) -> None:
        self._run, self._include_gated = run, include_gated
        self._folder = run if run.is_dir() else run.parent
        self.title = self._folder.resolve().name
        self.words = Words(self._folder / "policy")
        self._lock = RLock()
        self._rests_until = 0.0
        self._curves = Curves(self._folder / "metrics.jsonl")
        self._begin()

    def _begin(self) -> None:
        """Forgets what is known of the trees."""
        self._generation = time.time_ns()  # no other process's either: a page may outlive the server it came from
        self._gate = Gate.of_folder(self._folder, include_gated=self._include_gated)
        self._trees: Stored | None = None
        self._lines: dict[int, dict[str, Any] | None] = {}
        """By number; None for a tree that is not shown."""
        self._order: list[dict[str, Any]] = []
        """Those that are shown, as they became known."""
        self._next, self._damaged = 0, 0
        self._steps: dict[int, int] = {}
        """Of each tree that was read."""
        self._firsts: dict[int, int] = {}
        """The number of the first tree of a step."""

    def look(self, seconds: float) -> bool:
        """Takes in what was written since, and reads further trees for about so long; returns whether there are more.

        Raises:
            ConfigError: the file of trees is damaged before its end.
        """
        until = time.monotonic() + seconds
        with self._lock:
            if not self._is_grown():
                self._begin()
                self._is_grown()
        while (now := time.monotonic()) < until:
            if now < self._rests_until:
                time.sleep(min(self._rests_until, until) - now)
                continue
            with self._lock:
                if not self._unread:
                    break
                self._line(self._next)
                self._next += 1
            time.sleep(_BREATH)
        return self._unread > 0

    @contextmanager
    def _looked_at(self) -> Iterator[None]:
        """Keeps further reading back while somebody waits for a tree, and until it is likely to be on the screen."""
        self._rests_until = math.inf
        try:
            yield
        finally:
            self._rests_until = time.monotonic() + _REST

    def index(self, since: str) -> dict[str, Any]:
        """Returns what has come since an earlier answer said "since"; with "" what comes first."""
        with self._lock:
            generation, curves, lines = (int(one) for one in since.split(".")) if since else (0, 0, 0)
            is_whole = generation != self._generation
            curves, lines = (0, 0) if is_whole else (curves, lines)
            metrics, prompts = self._curves.lines[curves : curves + _MOST], self._order[lines : lines + _MOST]
            curves, lines = curves + len(metrics), lines + len(prompts)
            return {
                "since": f"{self._generation}.{curves}.{lines}",
                "version": f"{self._count}.{len(self._lines)}",
                "more": curves < len(self._curves.lines) or lines < len(self._order),
                "whole": is_whole,
                "title": self.title,
                "selection": self._selection(),
                "unread": self._unread,
                "metrics": metrics,
                "prompts": prompts,
            }

    def step(self, step: int) -> dict[str, Any]:
        """Returns the lines about the trees of a step, of which they may be the first that are read."""
        with self._looked_at(), self._lock:
            try:
                numbers = self._trees.of_step(step) if self._trees is not None else range(0)
            except ConfigError:
                numbers = range(0)
            found = [line for number in numbers if (line := self._line(number)) is not None]
            return {"prompts": found, "unread": self._unread}

    def tree(self, number: int) -> dict[str, Any]:
        """Returns a tree with the texts of its tokens.

        Raises:
            ConfigError: there is none, it is damaged, or it is kept back.
        """
        with self._looked_at(), self._lock:
            if number >= self._count or self._trees is None:
                raise ConfigError("The run has no such tree.")
            if self._line(number) is None:
                raise ConfigError("This tree is not shown: it is damaged, or its question must not be passed on.")
            tree = self._trees.tree(number)
        ids = (int(token) for node in tree.nodes for token in node.tokens)
        return {**record(tree), "vocabulary": self.words.of(ids)}

    def doubt(self) -> str:
        """Returns in words what may have to be kept back, "" if nothing may."""
        with self._lock:
            return self._gate.doubt()

    @property
    def _count(self) -> int:
        return self._trees.count if self._trees is not None else 0

    @property
    def _unread(self) -> int:
        return self._count - self._next

    def _is_grown(self) -> bool:
        """Looks at the files; returns whether what was there before still is, under the same numbers."""
        try:
            if not self._curves.look():
                return False
            if self._trees is not None:
                return self._trees.file.look()
            if (file := file_of_trees(self._run)) is not None:
                self._trees = Stored(TreeFile(file))
        except FileNotFoundError:  # between two looks
            return False
        except ValueError as error:
            raise ConfigError(f"{self._run} cannot be read: {error}") from error
        return True

    def _line(self, number: int) -> Mapping[str, Any] | None:
        """Returns the line about a tree, made when it is first asked for; None if the tree is not shown."""
        assert self._trees is not None, "it is asked for its number"
        if number not in self._lines:
            self._lines[number] = line = self._made(self._trees, number)
            if line is not None:
                self._order.append(line)
        return self._lines[number]

    def _made(self, trees: Stored, number: int) -> dict[str, Any] | None:
        try:
            tree = trees.tree(number)
        except ConfigError:
            self._damaged += 1
            return None
        step = self._steps[number] = int(tree.meta.get("step", 0))
        if self._gate.keeps_back(tree):
            return None
        return {"number": number, "step": step, "prompt": number - self._first(trees, step, number) + 1, **summary(tree)}

    def _first(self, trees: Stored, step: int, number: int) -> int:
        """Returns the number of the first tree of a step, to which a tree belongs."""
        if step not in self._firsts:
            is_first = number == 0 or self._steps.get(number - 1, step) != step
            try:
                self._firsts[step] = number if is_first else trees.of_step(step).start
            except ConfigError:  # a damaged tree hides where the step begins
                self._firsts[step] = number
        return self._firsts[step]

    def _selection(self) -> str:
        """Returns in words which trees these are."""
        if not self._count:
            return "No trees yet: they appear here when they come"
        shown = len(self._order)
        if self._unread:
            told = f"{shown:,} of {in_words(self._count)} read so far"
        else:
            told = in_words(shown) if shown == self._count else f"{shown:,} of {in_words(self._count)}"
        damaged = f"{in_words(self._damaged)} cannot be read" if self._damaged else ""
        return ". ".join(filter(None, (told, damaged, self._gate.left_out()))).removesuffix(".")
