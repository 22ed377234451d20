"""A reader without a model: what it is asked for is on the lines that share most words with the question."""

import re

from ..partners import Turn

_NUMBERED = re.compile(r"^L\d+:\s*[*#]*\s*")
_LINK = re.compile(r"【\d+†([^†】]*)(?:†[^】]*)?】")


def extractive(turn: Turn) -> str:
    r"""Reads without a model: the lines of the first view that share most words with the question are the note.

    >>> from arpo_envs import make_dialect
    >>> seen = "Question: the capital\n\n[0] Germany\n\nL0: country\nL1: * capital: 【0†Berlin】"
    >>> extractive(Turn(seen, True, "", make_dialect("tags", ()), ()))
    '<answer>capital: Berlin</answer>'
    """
    question, _, page = turn.observation.partition("\n\n")
    wanted = _words(question.partition(":")[2])
    lines = [_LINK.sub(r"\1", _NUMBERED.sub("", line)).strip() for line in page.split("\n") if _NUMBERED.match(line)]
    shared = [len(wanted & _words(line)) for line in lines]
    most = max(shared, default=0)
    chosen = [line for line, count in zip(lines, shared, strict=True) if count == most] if most else []
    note = "\n".join(chosen) or "The page says nothing about it."
    return note if turn.dialect is None else turn.dialect.answer(note)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
