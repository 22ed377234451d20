"""Questions about any web: a page is described by what others say where they link to it, and asked for one of its words."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ConfigError, unknown_name
from .. import Task
from ..text import words
from ..world import SPLITS, split_of
from .cloze import GAP, Gap, Mention, digest, gaps, mentions
from .crawl import Web


class WebQuestions:
    """Questions whose answer is on one page, to be found by following links from another.

    The page is hidden: it is described by sentences of pages that link to it, in which the link is a gap. Asked for is the
    word that is missing from a sentence which only this page has. Start page, describing pages and the page itself belong to
    the split, so no two splits share any of them; pages in between may belong to all.

    Args:
        web: the pages; see `crawl`.
        split: "train", "validation" or "test".
        clicks: the fewest and the most links that must be opened.
        described_by: how many pages describe the one that is looked for, at most.

    Raises:
        ConfigError: the split is unknown, or there is no such question.
    """

    def __init__(self, web: Web, *, split: str = "train", clicks: tuple[int, int] = (1, 4), described_by: int = 2) -> None:
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        if not 1 <= clicks[0] <= clicks[1] or described_by < 1:
            raise ConfigError(
                f"clicks must be (fewest, most), from 1 on, and described_by 1 at least; got {clicks}, {described_by}."
            )
        self.web, self.split, self.clicks, self.described_by = web, split, clicks, described_by
        self._own = tuple(url for url in web.pages if split_of(url) == split)
        own = set(self._own)
        self._gaps = {url: gap for url, gap in gaps(web).items() if url in own}
        self._mentions = self._described()
        self._start_of = self._starts()
        self._ids = tuple(self._start_of)
        first = next(iter(web.pages))
        self.name = f"links({first}, {len(web.pages)} pages, {split}, {clicks[0]}-{clicks[1]} clicks)"
        if not self._ids:
            raise ConfigError(f"{self.name}: there is no such question. Allow more pages or other numbers of clicks.")

    def __len__(self) -> int:
        """Returns the number of questions: one for each page that can be asked for."""
        return len(self._ids)

    def __deepcopy__(self, memo: dict[int, Any]) -> "WebQuestions":
        """Returns itself: nothing in it ever changes."""
        return self

    def draw(self, rng: np.random.Generator) -> Task:
        """Returns a question; each page is asked for equally often."""
        return self.get(self._ids[int(rng.integers(len(self._ids)))])

    def get(self, task_id: str) -> Task:
        """Returns the question about the page with that URL.

        Raises:
            ConfigError: there is none.
        """
        if task_id not in self._start_of:
            raise ConfigError(f"{self.name} has no question about {task_id!r}. One that it has: {self._ids[0]!r}.")
        gap, said = self._gaps[task_id], self._mentions[task_id][: self.described_by]
        start, clicks = self._start_of[task_id]
        pages = (start, *(one.origin for one in said), task_id)
        meta = {"start": start, "optimal_clicks": clicks, "pages": pages}
        return Task(task_id, _worded(self.web, said, gap, start), (gap.word,), meta)

    def questions(self) -> Sequence[Task]:
        """Returns every question once, in the order of the pages' URLs."""
        return [self.get(task_id) for task_id in self._ids]

    def majority_baseline(self) -> float:
        """Returns the success of always giving the most frequent answer."""
        return max(Counter(self._gaps[url].word.lower() for url in self._ids).values()) / len(self)

    def lexicon(self) -> Sequence[str]:
        """Returns the answers."""
        return sorted({self._gaps[url].word for url in self._ids})

    def demonstrate(self, task: Task, rng: np.random.Generator, *, perfect: bool = False) -> Sequence[tuple[str, str]]:
        """Returns an expert's moves: the start page, the fewest clicks, the answer.

        Args:
            task: a question of this source.
            rng: not used.
            perfect: makes no difference.

        Returns:
            Moves ("browser.open", its arguments as JSON), the last one ("answer", text).
        """
        distances, moves, url = self.web.distances(task.id), [("browser.open", "{}")], task.meta["start"]
        while url != task.id:
            targets = self.web.targets[url]
            number = next(i for i, to in enumerate(targets) if to and distances.get(to) == distances[url] - 1)
            moves.append(("browser.open", json.dumps({"id": number})))
            url = targets[number]
        return [*moves, ("answer", task.answers[0])]

    def _described(self) -> dict[str, list[Mention]]:
        """Returns what pages of the split say of those that can be asked for, one sentence of each, without the answer."""
        own, found = set(self._own), {}
        for target, said in mentions(self.web).items():
            if target not in self._gaps:
                continue
            word = self._gaps[target].word.lower()
            fair = [
                one for one in said if one.origin in own and word not in words(f"{one.text} {self.web.pages[one.origin].title}")
            ]
            by_origin = {mention.origin: mention for mention in sorted(fair, key=lambda mention: digest(mention.text))}
            if by_origin:
                found[target] = list(by_origin.values())
        return found

    def _starts(self) -> dict[str, tuple[str, int]]:
        """Returns for each page that can be asked for where to start, and how many clicks lead there."""
        fewest, most = self.clicks
        found = {}
        for target in sorted(self._mentions):
            distances = self.web.distances(target)
            near = [url for url in self._own if fewest <= distances.get(url, 0) <= most]
            if near:
                start = min(near, key=lambda url: digest(f"{target} {url}"))
                found[target] = (start, distances[start])
        return found


def _worded(web: Web, said: Sequence[Mention], gap: Gap, start: str) -> str:
    described = "; ".join(f"“{one.text}” (on the page “{web.pages[one.origin].title}”)" for one in said)
    return (
        f"A page of this site is linked where {GAP} stands in: {described}. On the page itself, a word is missing in: "
        f"“{gap.text}” Which word is it?\nStart page: {start}"
    )
