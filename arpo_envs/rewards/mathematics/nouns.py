r"""Nouns after the numbers of two mathematical answers, as in 5\text{ apples}, removed where they say what is counted."""

import re

from ..counting import is_counted, same_words
from ..units import leading_unit

_LONG = r"[^\W\d_]{3,}"
_UNSPACED = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
_NOUN = re.compile(
    r"(?<=[\d})])(?:(?:\s|\\[ ,;:]|~)*\\(?:text(?:bf|it|rm|normal)?|mathrm|mbox|operatorname)\s*\{(?P<set>[^{}]*)\}"
    rf"|\s+(?P<bare>{_LONG}(?:\s+{_LONG})*)|(?P<unspaced>{_UNSPACED}))"
    r"(?=\s*(?:[.,;)\]}$]|\\[})]|\*\*|$))"
)
"""Words set as text, of three letters or more with a space before them, or of a script without spaces; other letters are
variables."""


def without_nouns(answer: str, expected: str, question: str) -> tuple[str, str]:
    r"""Returns two answers without the nouns after their numbers, if both have the same, or one has what is counted.

    Args:
        answer: what was given.
        expected: what was expected; its own nouns say what is counted.
        question: the task's.

    >>> without_nouns("5 apples", "5", "How many apples?"), without_nouns(r"5\text{ apples}", r"5\text{ apple}", "?")
    (('5', '5'), ('5', '5'))
    >>> without_nouns("5 dozen", "5", "How many eggs?"), without_nouns("5 pears", "5", "How many apples?")
    (('5 dozen', '5'), ('5 pears', '5'))
    """
    given, wanted = _nouns(answer), _nouns(expected)
    if given and wanted:  # at least one set as text: 2 XYZ and 2 xyz are not words
        counted = len(given) == len(wanted) and all(map(same_words, given, wanted)) and "\\" in answer + expected
    else:
        counted = all(is_counted(noun, question) for noun in given) and all(
            is_counted(noun, question, () if bare else (noun,)) for noun, bare in wanted.items()
        )
    return (_NOUN.sub(_unit_alone, answer), _NOUN.sub(_unit_alone, expected)) if counted else (answer, expected)


def _nouns(text: str) -> dict[str, bool]:
    """Returns the words after the numbers of a text, without units before them, and whether they might be variables."""
    nouns = {leading_unit(_behind(found))[1]: found["bare"] is not None for found in _NOUN.finditer(text)}
    return {noun: bare for noun, bare in nouns.items() if noun}


def _unit_alone(found: re.Match[str]) -> str:
    words = _behind(found)
    unit, rest = leading_unit(words)
    if unit is None:
        return ""
    return found[0] if not rest else rf"\text{{ {words.removesuffix(rest).strip()}}}"


def _behind(found: re.Match[str]) -> str:
    return found["set"] or found["bare"] or found["unspaced"] or ""
