"""Comparing a short answer with an accepted one, without destroying what it means.

The usual normalisation deletes all punctuation and all articles, after which "-3" equals "3", "1.5"
equals "15" and "A" equals nothing. Here a mark is removed only where it cannot carry meaning.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from ..tasks.text import apart, plain
from .wrapping import unwrapped

_PLAIN = str.maketrans({"−": "-", "–": "-", "—": "-", "’": "'", "‘": "'", "“": '"', "”": '"'})
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")
_EMPHASIS = re.compile(r"(?<![\w*_`])([*_`]{1,3})(?=\S)([^*_`]+)(?<=\S)\1(?![\w*_`])")
_WRAPPED = re.compile(r"^[(\[{](.*[^\W\d_].*)[)\]}]$")
_ACRONYM = re.compile(r"^(?:[^\W\d_]\.){2,}$|^(?:[^\W\d_]\.)+[^\W\d_]$")
_ARTICLES = frozenset({"a", "an", "the"})
_VERDICTS = frozenset({"yes", "no", "noanswer"})
"""Answers that share no words with another answer: HotpotQA's scorer gives 0 where either is one and they differ."""
_ALONE = frozenset("-.()[]{}")
"""Signs that are no word by themselves."""
_QUOTES = "\"'`"
_PAUSES = ("STOP", "COMMA", "COLON", "MARK", "ELLIPSIS", "DANDA")
"""How the Unicode names of the marks end that divide sentences, in any script."""


def normalise(text: str) -> str:
    """Returns an answer in the form in which two spellings of it are equal.

    Case, emphasis, quotes of any language, punctuation at the ends of words, hyphens inside words, thousands separators,
    one leading article and the width of letters go. Signs, decimal points, fractions, exponents, accents and brackets
    around numbers stay. Letters of a script without spaces are words of their own.

    Args:
        text: an answer.

    >>> normalise("The  U.S. “Capitol”."), normalise("66,987,244"), normalise("A")
    ('us capitol', '66987244', 'a')
    >>> normalise("-3"), normalise("1.5"), normalise("1/2"), normalise("(1,2)")
    ('-3', '1.5', '1/2', '(1,2)')
    >>> normalise("„Hamlet“"), normalise("巴黎。"), normalise("１２")
    ('hamlet', '巴 黎', '12')
    """
    simple = _EMPHASIS.sub(r"\2", plain(text).translate(_PLAIN).casefold())
    simple = apart(_HYPHEN.sub(" ", _THOUSANDS.sub(lambda match: match[0].replace(",", ""), simple)))
    tokens = [token for token in map(_token, simple.split()) if token]
    if len(tokens) > 1 and tokens[0] in _ARTICLES:
        tokens = tokens[1:]
    return " ".join(tokens) if tokens else " ".join(simple.split())


def _token(word: str) -> str:
    """Strips from one word what cannot carry meaning; "" if nothing else is left."""
    word = word.strip(_QUOTES) if word.isascii() else _without_marks(word)
    trimmed = word.rstrip(".,;:!?\"'`")
    if _ACRONYM.match(word.rstrip(",;:!?")):
        return word.replace(".", "").rstrip(",;:!?")
    trimmed = trimmed.lstrip(",;:!?\"'`")
    wrapped = _WRAPPED.match(trimmed)
    if wrapped and not any(character.isdigit() for character in trimmed):
        trimmed = wrapped[1]
    return "" if trimmed in _ALONE else trimmed


def _without_marks(word: str) -> str:
    start, end = 0, len(word)
    while start < end and _is_mark(word[start]):
        start += 1
    while end > start and _is_mark(word[end - 1]):
        end -= 1
    return word[start:end]


@lru_cache(maxsize=4096)
def _is_mark(character: str) -> bool:
    """Says whether a character is a quotation mark, or a bracket or a mark of a pause beyond those of ASCII."""
    if character.isascii():
        return character in _QUOTES
    kind = unicodedata.category(character)
    pause = kind == "Po" and unicodedata.name(character, "").endswith(_PAUSES)
    return kind in {"Pi", "Pf", "Ps", "Pe"} or pause


def exact_match(answer: str, accepted: str) -> bool:
    """Says whether two answers are equal after `normalise`; an empty one equals nothing.

    >>> exact_match("mérignac.", "Mérignac"), exact_match("-3", "3"), exact_match("", "")
    (True, False, False)
    """
    return compare(answer, (accepted,))[0]


def token_f1(answer: str, accepted: str) -> float:
    """Returns the harmonic mean of precision and recall over the words of two normalised answers.

    Args:
        answer: what was given.
        accepted: what was expected.

    Returns:
        A number in [0, 1]; 1 for equal answers.

    >>> token_f1("Paris", "paris"), token_f1("Paris, France", "Paris"), token_f1("1.5", "15")
    (1.0, 0.6666666666666666, 0.0)
    """
    return compare(answer, (accepted,))[1]


def compare(answer: str, accepted: Sequence[str]) -> tuple[bool, float]:
    """Returns whether any accepted answer is matched exactly, and the best token F1 over all of them.

    An answer is taken out of its wrapping ("The final answer is **Paris**"). It is matched as it stands, too: a title may
    look wrapped. Words are compared as HotpotQA's and SQuAD's scorers do, apart from `normalise`.

    >>> compare("fr", (".fr", "fr"))
    (True, 1.0)
    """
    own = normalise(unwrapped(answer))
    targets = [_normalised(text) for text in accepted]
    if any(form and form in targets for form in (own, normalise(answer))):
        return True, 1.0
    return False, max((_f1(own, target) for target in targets), default=0.0)


def _f1(own: str, target: str) -> float:
    if own in _VERDICTS or target in _VERDICTS:
        return 0.0  # they are not equal
    given, expected = Counter(own.split()), Counter(target.split())
    common = (given & expected).total()
    return 2 * common / (given.total() + expected.total()) if common else 0.0


@lru_cache(maxsize=4096)
def _normalised(text: str) -> str:
    """Accepted answers come back again and again."""
    return normalise(text)
