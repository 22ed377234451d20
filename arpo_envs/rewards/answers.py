"""Comparing a short answer with an accepted one, without destroying what it means.

The usual normalisation deletes all punctuation and all articles, after which "-3" equals "3", "1.5"
equals "15" and "A" equals nothing. Here a mark is removed only where it cannot carry meaning.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

_PLAIN = str.maketrans({"−": "-", "–": "-", "—": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "\u00a0": " ", "\u202f": " "})
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")
_WRAPPED = re.compile(r"^[(\[{](.*[^\W\d_].*)[)\]}]$")
_ACRONYM = re.compile(r"^(?:[^\W\d_]\.){2,}$|^(?:[^\W\d_]\.)+[^\W\d_]$")
_ARTICLES = frozenset({"a", "an", "the"})


def normalise(text: str) -> str:
    """Returns an answer in the form in which two spellings of it are equal.

    Case, surrounding quotes, punctuation at the ends of words, hyphens inside words, thousands separators and one
    leading article go. Signs, decimal points, fractions, accents and brackets around numbers stay.

    Args:
        text: an answer.

    >>> normalise("The  U.S. “Capitol”."), normalise("66,987,244"), normalise("A")
    ('us capitol', '66987244', 'a')
    >>> normalise("-3"), normalise("1.5"), normalise("1/2"), normalise("(1,2)")
    ('-3', '1.5', '1/2', '(1,2)')
    """
    plain = unicodedata.normalize("NFC", text).translate(_PLAIN).casefold()
    plain = _HYPHEN.sub(" ", _THOUSANDS.sub(lambda match: match[0].replace(",", ""), plain))
    tokens = [token for token in map(_token, plain.split()) if token]
    if len(tokens) > 1 and tokens[0] in _ARTICLES:
        tokens = tokens[1:]
    return " ".join(tokens) if tokens else " ".join(plain.split())


def _token(word: str) -> str:
    """Strips from one word what cannot carry meaning; "" if nothing else is left."""
    word = word.strip("\"'`")
    trimmed = word.rstrip(".,;:!?\"'`")
    if _ACRONYM.match(word.rstrip(",;:!?")):
        return word.replace(".", "").rstrip(",;:!?")
    trimmed = trimmed.lstrip(",;:!?\"'`")
    wrapped = _WRAPPED.match(trimmed)
    if wrapped and not any(character.isdigit() for character in trimmed):
        trimmed = wrapped[1]
    return "" if trimmed in {"-", "."} else trimmed


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

    >>> compare("fr", (".fr", "fr"))
    (True, 1.0)
    """
    own = normalise(answer)
    targets = [_normalised(text) for text in accepted]
    if own and own in targets:
        return True, 1.0
    given = Counter(own.split())
    return False, max((_f1(given, Counter(target.split())) for target in targets), default=0.0)


def _f1(given: Counter[str], expected: Counter[str]) -> float:
    common = (given & expected).total()
    return 2 * common / (given.total() + expected.total()) if common else 0.0


@lru_cache(maxsize=4096)
def _normalised(text: str) -> str:
    """Accepted answers come back again and again."""
    return normalise(text)
