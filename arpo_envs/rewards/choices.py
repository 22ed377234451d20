"""Answers of the type "choice": one letter of several."""

import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from ..errors import ConfigError
from ..tasks.text import plain
from .answers import normalise
from .latex import MAX_LENGTH
from .verdict import Verdict
from .wrapping import unwrapped

_LEAD = re.compile(r"^(?:(?:the\s+)?(?:correct\s+|final\s+|right\s+)?(?:answer|option|choice)\s*(?:is|:)?\s*)+", re.IGNORECASE)
_TYPEFACE = re.compile(r"\\[a-zA-Z]+\s*\{([^{}]*)\}")
_NESTED = 4
_LETTER = re.compile(
    r"^(?:\(\s*([A-Za-z])\s*\)|\[([A-Za-z])\]|([A-Za-z])(?=$|\s*[.):,=]|\s+[-–—]\s))\s*[.):,=\-–—]*\s*(.*)$", re.DOTALL
)
_ANOTHER = re.compile(
    r"\(([A-Za-z])\)|^(?:or|and|/|&)\s*\(?([A-Za-z])\b|^([A-Za-z])(?=$|\s*[.,)/&:]|\s+(?:or|and)\b)", re.IGNORECASE
)


def check_choice(answer: str, accepted: tuple[str, ...], meta: Mapping[str, Any]) -> Verdict:
    """Returns whether an answer names an accepted option, by its letter, its text, or both.

    Args:
        answer: what was given: "(B)", "B.", "B) text", or the text of option B.
        accepted: letters, or texts of options.
        meta: of the task; "options" may hold the texts, in order or by letter.

    Raises:
        ConfigError: the options are not texts, or an accepted answer is none of them.

    >>> [check_choice(text, ("B",), {"options": ["Rome", "Paris"]}).success for text in ("(b)", "Paris", "B) Rome", "A or B")]
    [True, True, False, False]
    """
    options = _options(meta)
    targets = {letter_of(text, options) for text in accepted}
    if None in targets:
        known = f" of {', '.join(options)}" if options else ", such as B"
        raise ConfigError(f'An answer of type "choice" must be a letter{known}; the task expects {accepted!r:.80}.')
    given = letter_of(answer, options)
    return Verdict.of(given in targets, "" if given else "no single option")


def letter_of(text: str, options: Mapping[str, str]) -> str | None:
    r"""Returns the letter that a text names, None if it names none or more than one.

    >>> letter_of(r"\boxed{\text{(C)}}", {}), letter_of("a good question", {}), letter_of("B) no, (C)", {})
    ('C', None, None)
    """
    if len(text) > MAX_LENGTH:
        return None
    text = unwrapped(plain(text))
    for _ in range(_NESTED):
        text = _TYPEFACE.sub(r"\1", text)
    named = {normalise(option): letter for letter, option in options.items()}
    if normalise(text) in named:
        return named[normalise(text)]
    found = _LETTER.match(unwrapped(_LEAD.sub("", text)))
    if found is None:
        return None
    letter, rest = (found[1] or found[2] or found[3]).upper(), found[4]
    if options and letter not in options:
        return None
    if any("".join(found).upper() != letter for found in _ANOTHER.findall(rest)):
        return None
    return None if named.get(normalise(rest), letter) != letter else letter


def _options(meta: Mapping[str, Any]) -> dict[str, str]:
    options = meta.get("options", ())
    if isinstance(options, Mapping):
        found = {str(letter).strip("().: ").upper(): text for letter, text in options.items()}
    elif isinstance(options, Sequence) and not isinstance(options, str) and len(options) <= len(ascii_uppercase):
        found = dict(zip(ascii_uppercase, options, strict=False))
    else:
        raise ConfigError(
            f"A task's 'options' must be a list of texts or a mapping from letters to texts, got {options!r:.60}."
        )
    if not all(isinstance(text, str) for text in found.values()):
        raise ConfigError(f"A task's 'options' must be texts, got {options!r:.60}.")
    return found
