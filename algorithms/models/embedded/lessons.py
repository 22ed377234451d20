"""What the embedded policy learns from besides demonstrations: drills made from them, and echoes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..demonstrations.lesson import Ids, Lesson


def renamed(taught: Lesson, names: Ids, rng: np.random.Generator, vocabulary_size: int) -> Lesson:
    """Returns the lesson with every name replaced by a random one, the same throughout the lesson.

    What is left is the skill: where to copy from. The names no longer carry facts, so names from
    held-out questions may be used too.
    """
    mapping = np.arange(vocabulary_size)
    mapping[names] = rng.permutation(names)
    return Lesson(mapping[taught.tokens], taught.action)


def reading_only(taught: Lesson, read: Ids) -> NDArray[np.bool_]:
    """Returns [T], True where the demonstrator wrote one of these tokens, which it read somewhere; deciding does not count."""
    mask: NDArray[np.bool_] = taught.action & np.isin(taught.tokens, read)
    return mask


def repeated_in_results(taught: Lesson, read: Ids) -> NDArray[np.bool_]:
    """Returns [T], True where a prompt or a tool result repeats one of these tokens from earlier in the lesson.

    An episode in a browser copies nothing but links and the answer, which is too little to learn copying from; its pages
    repeat many names.
    """
    _, first = np.unique(taught.tokens, return_index=True)
    mask: NDArray[np.bool_] = ~taught.action & np.isin(taught.tokens, read)
    mask[first] = False
    return mask


def but_decisions(taught: Lesson) -> NDArray[np.bool_]:
    """Returns [T], True for all of an action except its first token, which decides what kind of action it is.

    The last action counts in full: answering once everything has been looked up is a skill. A policy that is unsure of it
    learns to search on and on when searching once more is rewarded.
    """
    mask: NDArray[np.bool_] = taught.action & np.roll(taught.action, 1)
    starts = np.flatnonzero(taught.action & ~np.roll(taught.action, 1))
    mask[starts[-1:]] = True
    return mask


def echoes(names: Ids, count: int, length: int, rng: np.random.Generator) -> tuple[Ids, NDArray[np.bool_]]:
    """Returns sequences that repeat themselves with a random period, which teaches a transformer to copy.

    A fixed period would be solved by position and teach nothing.

    Args:
        names: ids to draw from; all of them must occur, or held-out names cannot be copied later.
        count: B sequences.
        length: T tokens each.
        rng: the only source of randomness.

    Returns:
        Tokens [B, T], and a mask [B, T], True where a token repeats an earlier one.
    """
    period_B = rng.integers(2, length // 2 + 1, size=count)
    fresh_BT = rng.choice(names, size=(count, length))
    position_T = np.arange(length)
    tokens_BT = np.take_along_axis(fresh_BT, position_T[None] % period_B[:, None], axis=1)
    return tokens_BT, position_T[None] >= period_B[:, None]


def pad_lessons(lessons: Sequence[Lesson], masks: Sequence[NDArray[np.bool_]]) -> tuple[Ids, NDArray[np.bool_]]:
    """Returns right-padded tokens [B, T] and the mask of scored tokens [B, T]."""
    length = max(len(taught.tokens) for taught in lessons)
    tokens_BT = np.zeros((len(lessons), length), dtype=np.int64)
    mask_BT = np.zeros((len(lessons), length), dtype=np.bool_)
    for line, (taught, mask) in enumerate(zip(lessons, masks, strict=True)):
        tokens_BT[line, : len(taught.tokens)] = taught.tokens
        mask_BT[line, : len(mask)] = mask
    return tokens_BT, mask_BT
