"""Demonstrations as tokens that mark what the demonstrator wrote, and several of them as one tree."""

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arpo_envs import ConfigError

from ...durable import sync
from ...rendering.text import TextRenderer
from ...tree import NO_PARENT, Node, RolloutTree, Status
from .expert import Demonstration

Ids = NDArray[np.int64]

_UNLIMITED = 1 << 30


@dataclass(frozen=True)
class Lesson:
    """One episode as tokens.

    Args:
        tokens: [T] ids.
        action: [T], True where the demonstrator wrote the token.
    """

    tokens: Ids
    action: NDArray[np.bool_]

    @property
    def prompt(self) -> bytes:
        """What comes before the first action: equal for demonstrations of the same question."""
        return self.tokens[: int(self.action.argmax())].tobytes()


def lesson(shown: Demonstration, renderer: TextRenderer) -> Lesson:
    """Returns a demonstration as the tokens a policy would have seen and written."""
    tokens = list(renderer.start(shown.instructions, shown.question, shown.tools, shown.examples))
    mask = [False] * len(tokens)
    for turn, (action, observation) in enumerate(shown.turns, start=1):
        written = renderer.written(action)
        ended = written[-1] in renderer.stop_tokens
        over = turn == len(shown.turns) and not observation
        seen = () if over else renderer.observation(observation, _UNLIMITED, ended=ended).tokens
        tokens += [*written, *seen]
        mask += [True] * len(written) + [False] * len(seen)
    return Lesson(np.array(tokens, dtype=np.int64), np.array(mask))


def tree_of(lessons: Sequence[Lesson]) -> RolloutTree:
    """Returns a frozen tree whose paths are the lessons: what several of them begin with is in it once.

    Demonstrations in one environment begin with the same instructions, those of one question with the same prompt. A token is
    shared only if the demonstrator wrote it in all of them, or in none.

    Args:
        lessons: at least one.
    """
    tree, codes = RolloutTree(), [2 * one.tokens + one.action for one in lessons]
    together = _shared(codes, 0)
    prompt = int(np.argmax(codes[0][:together] % 2 == 1)) if (codes[0][:together] % 2).any() else together
    tree.add(_node((), NO_PARENT, 0, codes[0][:prompt], kind="prompt"))
    _grow(tree, codes, prompt, 0)
    return tree.freeze()


def _grow(tree: RolloutTree, codes: Sequence[Ids], at: int, parent: int) -> None:
    """Adds what follows after `at` tokens, below a node."""
    end = _shared(codes, at)
    for _, piece in groupby(range(at, end), key=lambda t: int(codes[0][t] % 2)):
        places = list(piece)
        parent = _add(tree, parent, codes[0][places[0] : places[-1] + 1])
    for _ in range(sum(len(code) == end for code in codes)):
        _add(tree, parent, codes[0][:0], status=Status.ANSWERED)
    going_on = [code for code in codes if len(code) > end]
    for first in dict.fromkeys(int(code[end]) for code in going_on):
        _grow(tree, [code for code in going_on if code[end] == first], end, parent)


def _shared(codes: Sequence[Ids], at: int) -> int:
    """Returns how far the codes are the same, given that they are up to `at`."""
    length = min(map(len, codes))
    same = np.logical_and.reduce([code[at:length] == codes[0][at:length] for code in codes])
    return length if same.all() else at + int(same.argmin())


def _add(tree: RolloutTree, parent: int, code: Ids, status: Status | None = None) -> int:
    above = tree.nodes[parent]
    key = (*above.key, sum(node.parent == parent for node in tree.nodes))
    kind = "action" if status is not None or code[0] % 2 else "observation"
    return tree.add(_node(key, parent, len(above.tokens), code, kind=kind, status=status))


def _node(key: tuple[int, ...], parent: int, at: int, code: Ids, **fields: object) -> Node:
    """Returns a node; the demonstrator was sure of what it wrote."""
    zeros = np.zeros(len(code))
    return Node(key, parent, at, tokens=code // 2, sampled=code % 2 == 1, logprobs=zeros, entropies=zeros, **fields)  # type: ignore[arg-type]


def save_lessons(file: Path, lessons: Sequence[Lesson]) -> None:
    """Writes lessons whole or not at all."""
    temporary = file.with_name(f".{file.name}.tmp")
    with temporary.open("wb") as written:
        np.savez_compressed(
            written,
            tokens=np.concatenate([one.tokens for one in lessons]),
            action=np.concatenate([one.action for one in lessons]),
            ends=np.cumsum([len(one.tokens) for one in lessons]),
        )
    sync(temporary)
    os.replace(temporary, file)
    sync(file.parent)


def load_lessons(file: Path) -> list[Lesson]:
    """Reads what `save_lessons` wrote.

    Raises:
        ConfigError: it is missing or damaged.
    """
    try:
        with file.open("rb") as opened, np.load(opened) as stored:
            tokens, action = (np.split(stored[name], stored["ends"][:-1]) for name in ("tokens", "action"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(f"The demonstrations of the run, {file}, cannot be read: {error}. Begin a new run.") from error
    return [Lesson(*pair) for pair in zip(tokens, action, strict=True)]
