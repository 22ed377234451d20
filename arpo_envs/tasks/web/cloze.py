"""What pages say of each other and of themselves, as sentences with a gap."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ...tools.browser import Page
from ..text import fold, words
from .crawl import Web

GAP = "____"
_LINK = re.compile(r"【(\d+)†([^†】]+)(?:†[^†】]+)?】")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_WORD = re.compile(r"\b[A-Za-z]{5,}\b")
_AROUND = 120
_FEWEST, _MOST = 8, 40


@dataclass(frozen=True)
class Mention:
    """How a page speaks of another: the text around its link, with a gap for the link itself."""

    origin: str
    target: str
    text: str


@dataclass(frozen=True)
class Gap:
    """A sentence of a page that no other page has, without its rarest word."""

    text: str
    word: str


@lru_cache(maxsize=4)
def mentions(web: Web) -> Mapping[str, list[Mention]]:
    """Returns by target what other pages say of it: what is said on one page only, and once, without the target's title."""
    found = [mention for url, page in web.pages.items() for mention in _mentions(url, page, web)]
    often = Counter(fold(mention.text) for mention in found)
    by_target: dict[str, list[Mention]] = {}
    for mention in found:
        told, title = fold(mention.text), fold(web.pages[mention.target].title)
        if often[told] == 1 and len(told.split()) >= _FEWEST and f" {title} " not in f" {told} ":
            by_target.setdefault(mention.target, []).append(mention)
    return by_target


@lru_cache(maxsize=4)
def gaps(web: Web) -> Mapping[str, Gap]:
    """Returns for each page a sentence that is on no other one, with a gap; pages without such a sentence are left out."""
    sentences = {url: list(dict.fromkeys(_sentences(page))) for url, page in web.pages.items()}
    often = Counter(sentence for found in sentences.values() for sentence in found)
    common = Counter(word for page in web.pages.values() for word in set(words(page.text)))
    chosen = {}
    for url, found in sentences.items():
        own = sorted((sentence for sentence in found if often[sentence] == 1), key=digest)
        gap = next((gap for sentence in own if (gap := _without_a_word(sentence, common)) is not None), None)
        if gap is not None:
            chosen[url] = gap
    return chosen


def _mentions(url: str, page: Page, web: Web) -> Iterator[Mention]:
    targets = web.targets[url]
    for line in page.text.split("\n"):
        for link in _LINK.finditer(line):
            target = targets[int(link[1])]
            if target and target != url:
                before, behind = (_LINK.sub(r"\2", part) for part in (line[: link.start()], line[link.end() :]))
                yield Mention(url, target, f"{_end(before)}{GAP}{_beginning(behind)}".strip())


def _beginning(text: str) -> str:
    """Returns the words at the beginning of a text, about as many as fit a line."""
    return text if len(text) <= _AROUND else f"{text[:_AROUND].rpartition(' ')[0]} …"


def _end(text: str) -> str:
    return text if len(text) <= _AROUND else f"… {text[-_AROUND:].partition(' ')[2]}"


def _sentences(page: Page) -> Iterator[str]:
    for line in _LINK.sub(r"\2", page.text).split("\n"):
        for sentence in _SENTENCE.split(line.strip()):
            if _FEWEST <= len(sentence.split()) <= _MOST and sentence.endswith("."):
                yield sentence


def _without_a_word(sentence: str, common: Mapping[str, int]) -> Gap | None:
    told = words(sentence)
    known = [word for word in _WORD.findall(sentence) if told.count(word.lower()) == 1 and fold(word) == word.lower()]
    if not known:
        return None
    word = min(known, key=lambda word: (common.get(word.lower(), 0), word))
    return Gap(re.sub(rf"\b{word}\b", GAP, sentence, count=1), word)


def digest(text: str) -> bytes:
    """Returns what orders texts at random, but everywhere alike."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
