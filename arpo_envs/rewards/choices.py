"""Answers of the type "choice": one letter of several."""

import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from ..errors import ConfigError
from .answers import normalise
from .mathematics.latex import MAX_LENGTH, to_latex, without_spaces
from .signs import plain_signs
from .verdict import Verdict
from .wrapping import TYPEFACE, unwrapped

_LEAD = re.compile(
    r"^(?:i\s+(?:choose|pick|select)\s+|it\s+is\s+|it's\s+|(?:(?:the\s+)?(?:correct\s+|final\s+|right\s+)?"
    r"(?:answer|option|choice|letter)\s*(?:is|should\s+be|[:=-])?\s*))+",
    re.IGNORECASE,
)
_AFFIRMED = re.compile(r"\s+is\s+(?:the\s+)?(?:correct|right|best)(?:\s+(?:answer|option|choice))?\s*[.!]?$", re.IGNORECASE)
_TYPEFACE = re.compile(TYPEFACE + r"([^{}]*)\}")
_LATEX_SPACE = re.compile(r"\\(?:[ ,;:!]|q?quad(?![a-zA-Z]))|~")
_DECLARED = re.compile(
    r"\\(?:left|right|rm|bf|it|sf|tt|bfseries|itshape|displaystyle|large|Large|LARGE|huge|Huge)(?![a-zA-Z])\s*"
)
"""Commands that change how the letters after them look, not which they are."""
_PREFIX = (
    r"\\(?:(?:var)?(?:[Aa]lpha|[Bb]eta|[Gg]amma|[Dd]elta|[Ee]psilon|[Zz]eta|[Ee]ta|[Tt]heta|[Ii]ota|[Kk]appa|[Ll]ambda|[Mm]u"
    r"|[Nn]u|[Xx]i|[Oo]micron|[Pp]i|[Rr]ho|[Ss]igma|[Tt]au|[Uu]psilon|[Pp]hi|[Cc]hi|[Pp]si|[Oo]mega)|[dtc]?frac|binom|sqrt"
    r"|partial|nabla|vec|hat|bar|tilde|d?dot|overline|wide(?:hat|tilde)|over(?:right|left)arrow|math(?:bb|cal|frak|scr)|angle"
    r"|triangle|(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|ln|lg|exp|det)(?![A-Za-z])"
)
"""Commands that have an operand, and Greek letters, which may stand before one: what joins or divides is not among them."""
_FORMULA = re.compile(
    r"(?<!\d)\$(?!\d[^$\\]*\s[a-z]{2,}\s)[^$]*[\\^_=+<>][^$]*\$(?!\d)|\\\([^()]*[\\^_=+<>][^()]*\\\)"
    rf"|{_PREFIX}(?:\s*(?:\[[^][]*\]|\{{(?:[^{{}}]|\{{[^{{}}]*\}})*\}}))*(?:\s*[A-Za-z](?![A-Za-z]))?"
)
"""Mathematics among words (no amounts of money): its letters are variables, not options."""
_NESTED = 4
_LETTER = re.compile(
    r"^(?:[(\[{]\s*(?P<enclosed>[A-Za-z])\s*[)\]}]|(?P<bare>[A-Za-z])(?!\w))"
    r"(?P<divider>\s*[.):,;=|!]+|\s+(?:-+>?|→)(?=\s)|$)?\s*(?P<rest>.*)$",
    re.DOTALL,
)
_REJECTED = re.compile(r"\b(?:not|isn't)\s+\(?[A-Z]\)?(?!\w)")
_DENIED = re.compile(r"^\W*(?:is\s+)?(?:not|no|wrong|incorrect|false|never)\b", re.IGNORECASE)
_DIVIDING = re.compile(r"[,;\n]|\bor\b|\band\b")
_OTHERS = (
    re.compile(r"(?<!\w)[(\[{]\s*([A-Za-z])\s*[)\]}]"),
    re.compile(r"^(?:(?:or|and|/|&)\s*)?([A-Za-z])(?=$|\s*[.,;:)/&|=-]|\s+(?:or|and)\b)", re.IGNORECASE),
    re.compile(r"(?<![\w'.\\])(?<!\d )([B-HJ-Z]|A(?!\s+(?!(?:or|and|is)\b)[a-z]))(?![\w'])"),
    re.compile(r"(?<![\w([{])([A-Za-z])\s*\)"),
)
"""How another letter is named: in brackets, first of all, as a capital that stands alone (but "A village"), as "a)"."""


def judge_choice(answer: str, accepted: tuple[str, ...], meta: Mapping[str, Any]) -> Verdict:
    """Returns whether an answer names an accepted option, by its letter, its text, or both.

    Args:
        answer: what was given: "(B)", "B.", "B) text", or the text of option B.
        accepted: letters, or texts of options.
        meta: the task's; "options" may hold the texts, in order or by letter.

    Raises:
        ConfigError: the options are not strings, or an accepted answer is none of them.

    >>> [judge_choice(text, ("B",), {"options": ["Rome", "Paris"]}).success for text in ("(b)", "Paris", "B) Rome", "A or B")]
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
    r"""Returns the letter that a text names, or None if it names none or several.

    >>> letter_of(r"\boxed{\text{(C)}}", {}), letter_of("a good question", {}), letter_of("B) no, (C)", {})
    ('C', None, None)
    """
    if len(text) > MAX_LENGTH:
        return None
    texts = {letter: _bare(option) for letter, option in options.items()}
    named = {form: letter for letter, option in texts.items() for form in (normalise(option), *_forms(option)) if form}
    text = _bare(text)
    if text.upper() not in texts and (letters := [named[form] for form in _forms(text) if form in named]):
        return letters[0]
    found = _LETTER.match(_AFFIRMED.sub("", _bare(_LEAD.sub("", text))))
    if found is None:
        return None
    letter, rest = (found["enclosed"] or found["bare"]).upper(), found["rest"]
    if options and letter not in options:
        return None
    if rest and any(named.get(form) == letter for form in _forms(rest)):
        return letter
    is_divided = found["enclosed"] or found["divider"] is not None
    return letter if is_divided and not _is_contradicted(letter, rest, texts) else None


def _words(text: str) -> str:
    """Returns the normal form of a text, keeping an "a" at its beginning: it may be a letter."""
    words = normalise(f"= {text}").removeprefix("= ")
    return words if words.startswith("a ") else normalise(text)


def _forms(text: str) -> tuple[str, ...]:
    r"""Returns the forms in which an option's text may be found again: its words, and a formula in one spelling of LaTeX."""
    return (_words(text), without_spaces(to_latex(unwrapped(text)))) if "\\" in text else (_words(text),)


def _bare(text: str) -> str:
    """Returns what is inside all wrapping, quotes and typefaces."""
    text = unwrapped(plain_signs(text))
    for _ in range(_NESTED):
        text = _TYPEFACE.sub(r"\1", text)
    return _LATEX_SPACE.sub(" ", _DECLARED.sub("", text)).strip("\"' ")


def _is_contradicted(letter: str, rest: str, texts: Mapping[str, str]) -> bool:
    """Says whether what follows a letter denies it, names another one, or begins with another option's text."""
    rest = _REJECTED.sub("", rest)
    outside = _FORMULA.sub(" ", rest)
    others = {other.upper() for pattern in _OTHERS for other in pattern.findall(outside)} - {letter}
    if _DENIED.match(rest) or others & set(texts or ascii_uppercase):
        return True
    words = f"{normalise(rest)} "
    begun = [option for option in texts if (text := normalise(texts[option])) and words.startswith(f"{text} ")]
    if begun and max(begun, key=lambda option: len(texts[option])) != letter:  # the longest is meant: New York, not New
        return True
    return not (_parts(rest) - _parts(texts.get(letter, ""))).isdisjoint(map(normalise, texts.values()))


def _parts(text: str) -> set[str]:
    return {normalise(part) for part in _DIVIDING.split(text)} - {""}


def _options(meta: Mapping[str, Any]) -> dict[str, str]:
    options = meta.get("options", ())
    if isinstance(options, Mapping):
        found = {str(letter).strip("().: ").upper(): text for letter, text in options.items()}
    elif isinstance(options, Sequence) and not isinstance(options, str) and len(options) <= len(ascii_uppercase):
        found = dict(zip(ascii_uppercase, options, strict=False))
    else:
        raise ConfigError(
            f"A task's 'options' must be a list of strings or a mapping from letters to strings, got {options!r:.60}."
        )
    if not all(isinstance(text, str) for text in found.values()):
        raise ConfigError(f"A task's 'options' must be strings, got {options!r:.60}.")
    return found
