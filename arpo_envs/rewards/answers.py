"""Comparing a short answer with an accepted one, without destroying what it means.

The usual normalisation deletes all punctuation and all articles, after which "-3" equals "3", "1.5"
equals "15" and "A" equals nothing. Here a mark is removed only where it cannot carry meaning.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from ..tasks.text import apart
from .published import VERDICTS, published_normal
from .signs import plain_signs
from .wrapping import unwrapped

_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")
_LETTER = re.compile(r"[^\W\d_]")
_ACRONYM = re.compile(r"^(?:[^\W\d_]\.){2,}$|^(?:[^\W\d_]\.)+[^\W\d_]$")
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")
_ARTICLES = frozenset({"a", "an", "the"})
_JOINING = frozenset({"and", "or"})
_LONGEST = 10_000
"""Characters of an answer that are read; more are if an accepted one is itself longer than a tenth of it."""
_QUOTES = "\"'`"
_ALONE = frozenset("-.()[]{}")
"""Signs that are not words by themselves."""


def normalise(text: str) -> str:
    """Returns an answer in a form in which its different spellings are equal.

    Case, emphasis, quotes of any language, punctuation at the ends of words, hyphens inside words, thousands separators,
    one leading article (one that a word follows) and the width of letters are dropped. Signs, decimal points, fractions,
    exponents, accents and brackets around numbers are kept. Letters of a script without spaces are words of their own.

    Args:
        text: an answer.

    >>> normalise("The  U.S. “Capitol”."), normalise("66,987,244"), normalise("a cat"), normalise("A, D")
    ('us capitol', '66987244', 'cat', 'a d')
    >>> normalise("-3"), normalise("1.5"), normalise("1/2"), normalise("(1,2)")
    ('-3', '1.5', '1/2', '(1,2)')
    >>> normalise("„Hamlet“"), normalise("巴黎。"), normalise("１２")
    ('hamlet', '巴 黎', '12')
    """
    simple = apart(_THOUSANDS.sub(lambda match: match[0].replace(",", ""), plain_signs(text).casefold()))
    words = simple.split()
    tokens = [[token for token in map(_token, _HYPHEN.sub(" ", word).split()) if token] for word in words]
    start = 1 if words and _is_article(words[0].lstrip(_QUOTES), tokens[1:]) else 0
    return " ".join(token for part in tokens[start:] for token in part) or " ".join(words)


def _is_article(word: str, after: Sequence[Sequence[str]]) -> bool:
    """Says whether a word as it is written is an article: words follow it, the first at once.

    Args:
        word: with the marks behind it.
        after: the tokens of the words after it; numbers and letters may stand before a noun ("a 9 V battery").
    """
    if word not in _ARTICLES or not after or not after[0]:
        return False
    return word != "a" or any(map(_is_noun, (token for tokens in after for token in tokens)))


def _is_noun(token: str) -> bool:
    """Says whether a token may be what an article stands before, and is not one of several letters in a row ("A B and C")."""
    return _LETTER.search(token) is not None and token not in _JOINING and (len(token) > 1 or apart(token) != token)


def _token(word: str) -> str:
    """Strips from one word what cannot carry meaning; "" if nothing else is left."""
    word = word.strip(_QUOTES)
    trimmed = word.rstrip(".,;:!?" + _QUOTES)
    if _ACRONYM.match(word.rstrip(",;:!?")):
        return word.replace(".", "").rstrip(",;:!?")
    trimmed = trimmed.lstrip(",;:!?" + _QUOTES)
    if trimmed[:1] in _OPEN and trimmed[-1:] in _CLOSE and _LETTER.search(trimmed) and not any(map(str.isdigit, trimmed)):
        trimmed = trimmed[1:-1]
    return "" if trimmed in _ALONE else trimmed


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

    >>> token_f1("Paris", "paris"), token_f1("Paris, France", "Paris"), token_f1("1.5", "15"), token_f1("yes no", "yes")
    (1.0, 0.6666666666666666, 0.0, 0.0)
    """
    return compare(answer, (accepted,))[1]


def compare(answer: str, accepted: Sequence[str]) -> tuple[bool, float]:
    """Returns whether any accepted answer is matched exactly, and the best token F1 over all of them.

    An answer is taken out of its wrapping ("The final answer is **Paris**"). It is matched as it stands, too: a title may
    look wrapped. Words in common are counted as by the scorers of HotpotQA and SQuAD: articles earn nothing, and where
    one side is yes, no or noanswer and the other is not, nothing is in common. We differ in `normalise`: those scorers
    delete all of ASCII's punctuation, digits' signs and points included, and every article, and nothing else. And an answer far
    longer than all accepted ones has nothing in common with them, whatever is in it: a megabyte would take seconds.

    Args:
        answer: what was given.
        accepted: all answers that count as right.

    >>> compare("fr", (".fr", "fr"))
    (True, 1.0)
    """
    if len(answer) > max(_LONGEST, *(10 * len(text) for text in accepted), 0):
        return False, 0.0
    own = _read(answer, unwrapped(plain_signs(answer)))
    targets = [_accepted(text) for text in accepted]
    forms = {own.normal, normalise(answer)} - {""}
    if any(target.normal in forms for target in targets):
        return True, 1.0
    return False, max((_f1(own, target) for target in targets), default=0.0)


class _Read(NamedTuple):
    """An answer in the form in which it is compared."""

    normal: str
    is_verdict: bool


def _read(text: str, inner: str) -> _Read:
    normal = normalise(inner)
    return _Read(normal, any(map(_is_verdict, (text, normal))))


@lru_cache(maxsize=4096)
def _accepted(text: str) -> _Read:
    """Cached: accepted answers recur."""
    return _read(text, text)


def _is_verdict(text: str) -> bool:
    """Says whether HotpotQA's scorer reads yes, no or noanswer: it deletes all punctuation and all articles first."""
    return published_normal(text) in VERDICTS


def _f1(own: _Read, target: _Read) -> float:
    """Returns the F1 of two answers that are not equal."""
    if own.is_verdict or target.is_verdict:
        return 0.0
    given, expected = own.normal.split(), target.normal.split()
    return min(_overlap(given, expected), _overlap(*([w for w in words if w not in _ARTICLES] for words in (given, expected))))


def _overlap(given: list[str], expected: list[str]) -> float:
    common = (Counter(given) & Counter(expected)).total()
    return 2 * common / (len(given) + len(expected)) if common else 0.0
