"""Outside text as tokens that hold none of the model's marks, whatever the tokenizer's normaliser makes of the text.

A normaliser may turn harmless text into a mark after it was checked: full-width letters into ASCII, capitals into
lower case, a broken mark into a whole one by dropping the space in it. So the tokens are checked.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

_SEPARATORS = (" ", "-", "?", "·")
"""What breaks up a mark; a normaliser may drop one of them, but hardly all."""
_HEAD = 8
"""Characters of a text that may join with what is before it: a letter and its accents."""
_TAG = re.compile(r"<\s*+(/?)\s*+([\w.-]++)\s*+>")
"""A tag of any name: which ones belong to a dialect is not known here, only which ones the text had."""


class Piece(NamedTuple):
    """Part of a text: our own text may hold marks, text from outside must not."""

    text: str
    own: bool


class Speller:
    """Encodes texts of two origins: our own, which holds marks, and outside text, which must not.

    Args:
        tokenizer: a `transformers` tokenizer.
        marks: strings with a meaning to the model, by their token ids.
    """

    def __init__(self, tokenizer: Any, marks: Mapping[int, str]) -> None:
        self._tokenizer = tokenizer
        self._ids, self._texts = frozenset(marks), frozenset(marks.values())
        self._pattern = pattern_of(marks.values())

    def encode(self, text: str) -> tuple[int, ...]:
        """Returns the tokens of our own text."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, tokens: Sequence[int]) -> str:
        """Returns the text of tokens."""
        return str(self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))

    def marks(self, tokens: Sequence[int]) -> tuple[list[int], list[str]]:
        """Returns the marks among tokens: those that are single tokens, and those that can be read in the text."""
        return [token for token in tokens if token in self._ids], self._pattern.findall(self.decode(tokens))

    def spelt(self, text: str) -> str:
        """Returns outside text whose tokens hold no mark, and no tag that the text did not have: a separator breaks them up.

        A character that is a mark by itself, or is unknown to the tokenizer, becomes a question mark.
        """
        if self._is_clean(text):
            return text
        instead = "?" if self._is_clean("?") else ""
        return self._broken(text.translate({ord(letter): instead for letter in set(text) if not self._is_clean(letter)}))

    def apart(self, text: str) -> str:
        """Returns outside text that spoils no mark right before it, as an accent does: a separator keeps it off, if one can."""
        head = text[:_HEAD]
        for separator in ("", *_SEPARATORS):
            if all(
                self.marks(self.encode(f"{mark}{separator}{head}")) == self.marks(self.encode(mark)) for mark in self._texts
            ):
                return separator + text
        return text

    def join(self, pieces: Sequence[Piece]) -> tuple[int, ...]:
        """Returns the tokens of consecutive pieces, which hold the marks of our own pieces and no others.

        They are encoded as one text; if outside text then makes or spoils a mark, it is respelt, or else encoded separately.
        """
        own = [self.marks(self.encode(piece.text)) for piece in pieces if piece.own]
        wanted = ([token for ids, _ in own for token in ids], [mark for _, texts in own for mark in texts])
        tokens = self._joined(pieces, wanted)
        if tokens is not None:
            return tokens
        pieces = [piece if piece.own else Piece(self.spelt(piece.text), False) for piece in pieces]
        tokens = self._joined(pieces, wanted)
        return tokens if tokens is not None else tuple(token for piece in pieces for token in self.encode(piece.text))

    def _joined(self, pieces: Sequence[Piece], wanted: tuple[list[int], list[str]]) -> tuple[int, ...] | None:
        """Returns the tokens of pieces as one text; None if they hold other marks than those wanted, or new tags."""
        text = "".join(piece.text for piece in pieces)
        tokens = self.encode(text)
        return tokens if self.marks(tokens) == wanted and self._has_no_new_tags(text, tokens) else None

    def _broken(self, text: str) -> str:
        """Returns a text of clean characters without marks: its halves are cleaned, then marks across them broken up."""
        if len(text) < 2 or self._is_clean(text):
            return text
        left, right = self._broken(text[: len(text) // 2]), self._broken(text[len(text) // 2 :])
        while left:
            for separator in ("", *_SEPARATORS):
                if self._is_clean(left + separator + right):
                    return left + separator + right
            left = left[:-1]
        return right

    def _is_clean(self, text: str) -> bool:
        tokens = self.encode(text)
        return self.marks(tokens) == ([], []) and self._has_no_new_tags(text, tokens)

    def _has_no_new_tags(self, text: str, tokens: Sequence[int]) -> bool:
        return not _tags(self.decode(tokens)) - _tags(text)


def _tags(text: str) -> Counter[tuple[str, str]]:
    return Counter((end, name.lower()) for end, name in _TAG.findall(text))


def pattern_of(strings: Iterable[str]) -> re.Pattern[str]:
    """Returns a pattern that finds any of some strings, the longest first, and nothing if there are none."""
    longest_first = sorted(filter(None, strings), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) if longest_first else r"(?!)")
