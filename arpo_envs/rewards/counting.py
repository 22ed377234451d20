"""Words after a number that say what is counted: "5 apples" is 5 where the task speaks of apples; "5 dozen" is not."""

import re
import unicodedata
from collections.abc import Iterable

from ..tasks.text import words


def _set_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


NUMERALS = _set_of(
    "zero one two three four five six seven eight nine ten eleven twelve dozen pair couple score gross single double triple "
    "half halve third quarter fourth fifth sixth seventh eighth ninth tenth hundred thousand million billion trillion "
    "hundredth thousandth millionth squared cubed factorial twice thrice"
)
"""Words that change a number; plurals too."""
FUNCTION_WORDS = _set_of(
    "a about above all also an and any are as at be been below but by can could did do does each else even every few for from "
    "had has have how if in into is it its just less like many maybe minus mod modulo more most much never no none nor not of "
    "off on only or other out over per perhaps plus right same should so some such than that the then there these they this "
    "those thus time times to too under up upon us very was we were what when where which who whose why will with without "
    "would wrong yes yet you your"
)
"""Words that name nothing."""
_FUNCTIONS = _set_of("sin cos tan cot sec csc log ln exp sqrt pi inf infinity oo det gcd lcm min max lim")
_MOST = 3
_WORDS = re.compile(r"^[^\W\d_]{2,30}(?:[\s'-]+[^\W\d_]{2,30})*$")


def is_counted(text: str, question: str, beside: Iterable[str] = ()) -> bool:
    """Says whether words name what is counted: each occurs in the question, or after an accepted answer.

    If neither has any words, nothing is named: then one plural noun will do.

    Args:
        text: the words after a number.
        question: the task's.
        beside: what follows the numbers of the accepted answers.

    >>> is_counted("apples", "How many apples are left?"), is_counted("pears", "How many apples are left?")
    (True, False)
    >>> [is_counted(text, "?") for text in ("apples", "dozen", "is wrong", "thirds", "x", "pi")]
    [True, False, False, False, False, False]
    """
    if not _WORDS.match(text) or any(map(str.isnumeric, text)):  # a raised digit counts as a letter in patterns
        return False
    given = [_forms(word) for word in words(text)]
    if len(given) > _MOST or any(map(_means_something_else, frozenset[str]().union(*given))):
        return False
    named = {form for source in (question, *beside) for word in words(source) for form in _forms(word)}
    if any(word.isalpha() for word in named):
        return all(forms & named for forms in given)
    return len(given) == 1 and len(given[0]) > 1


def _means_something_else(word: str) -> bool:
    if word in NUMERALS or word in FUNCTION_WORDS or word in _FUNCTIONS:
        return True
    try:
        unicodedata.lookup(f"GREEK SMALL LETTER {word}")
    except KeyError:
        return False
    return True


def _forms(word: str) -> frozenset[str]:
    """Returns a word and what it may be the plural of, so that two forms of one noun have something in common."""
    endings = {"s": "", "es": "", "ies": "y", "ves": "f"} if len(word) > 3 and not word.endswith("ss") else {}
    return frozenset({word, *(word.removesuffix(plural) + one for plural, one in endings.items() if word.endswith(plural))})


def same_words(one: str, other: str) -> bool:
    """Says whether two texts are the same words, apart from case and plural.

    >>> same_words("eggs", "Egg"), same_words("eggs", "ducks")
    (True, False)
    """
    left, right = (text.casefold().split() for text in (one, other))
    return len(left) == len(right) and all(_forms(a) & _forms(b) for a, b in zip(left, right, strict=True))
