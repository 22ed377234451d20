"""A text space that holds Unicode.

`gymnasium.spaces.Text` has a closed character set: its default refuses a space, and the full Unicode
set costs seconds and megabytes. It also comes back as "0000…" from `AsyncVectorEnv`'s shared
memory. A separate kind of space is refused there with an error instead.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium.spaces import Space

from .copies import copied

MAX_TEXT = 1 << 20
"""Characters in the longest text of any environment here: one number, so that spaces stay equal."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz ABCXYZ 0123456789 .,;:!?'\"()<>/=+-*_\n éßñ 你好 λ Ж ع 🙂"


class TextSpace(Space[str]):
    r"""All strings of at most `max_length` characters that can be encoded as UTF-8.

    Args:
        max_length: longest text, in characters; at least 1.
        seed: seeds `sample`, as in every Gymnasium space.

    Raises:
        ValueError: `max_length` is below 1.

    >>> space = TextSpace()
    >>> "Hi, café 你好" in space, "" in space, "\ud800" in space
    (True, True, False)
    """

    def __init__(self, max_length: int = MAX_TEXT, *, seed: int | np.random.Generator | None = None) -> None:
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}.")
        self.max_length = max_length
        super().__init__(shape=None, dtype=None, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: a string has no fixed-size vector."""
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Returns a short random text, mixed from several scripts.

        Raises:
            ValueError: a mask or probability was given; neither means anything here.
        """
        if mask is not None or probability is not None:
            raise ValueError("TextSpace.sample takes neither mask nor probability.")
        length = int(self.np_random.integers(0, min(64, self.max_length) + 1))
        picks = self.np_random.integers(0, len(_ALPHABET), size=length)
        return "".join(_ALPHABET[i] for i in picks)

    def contains(self, x: Any) -> bool:
        """Says whether `x` is a text of this space: no lone surrogates, not too long."""
        if not isinstance(x, str) or len(x) > self.max_length:
            return False
        return x.isascii() or not any("\ud800" <= character <= "\udfff" for character in x)

    def to_jsonable(self, sample_n: Iterable[str]) -> list[str]:
        """Strings are JSON already."""
        return list(sample_n)

    def from_jsonable(self, sample_n: list[Any]) -> list[str]:
        """Strings are JSON already."""
        return [str(text) for text in sample_n]

    def __deepcopy__(self, memo: dict[int, Any]) -> "TextSpace":
        """A clone of an environment copies two spaces, whose only state is a generator, if one was asked for."""
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        vars(twin).update(copied(vars(self), memo))
        return twin

    def __eq__(self, other: object) -> bool:
        """Spaces are equal when they hold the same texts."""
        return isinstance(other, TextSpace) and other.max_length == self.max_length

    __hash__ = None  # type: ignore[assignment]  # like every Gymnasium space: mutable (it owns an RNG)

    def __repr__(self) -> str:
        """Short: the space prints inside every wrapper's name."""
        return f"TextSpace({self.max_length})"
