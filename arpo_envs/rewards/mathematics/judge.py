"""Answers of the type "math": mathematical equality, decided in a process of its own.

What is obviously equal, or two plain numbers, is settled here in microseconds; all else goes to `equivalence`.
"""

import importlib.util
import re
from fractions import Fraction
from functools import lru_cache

from ...errors import ConfigError
from ..answers import normalise
from ..signs import plain_signs
from ..verdict import Verdict
from ..worker import Overrun, Raised, shared_worker
from ..wrapping import unwrapped
from .latex import to_latex, too_wild, without_spaces
from .nouns import without_nouns

SECONDS = 5.0
"""Processor time for one comparison."""
_PLAIN = re.compile(r"^[+-]?(?:\d+(?:\.\d*)?|\.\d+)$")
_SIGNS = re.compile(r"[\d\\^=+*/<>(){}\[\]|%°√π∞±∅-]")
_WORD = re.compile(r"^(?:[nN]o|[^\W\d_]{3,}|(?=.*[^\W\d_]{2})[^\W\d_]+(?:[\s'-]+[^\W\d_]+)+)$")
_LETTERS = re.compile(r"^[^\W\d_](?:[\s,-]+[^\W\d_])+$")
_DIVIDING = re.compile(r"[\s,]+")


def judge_math(answer: str, accepted: tuple[str, ...], question: str = "") -> Verdict:
    r"""Returns whether an answer is mathematically equal to an accepted one.

    Args:
        answer: LaTeX, Unicode or program text; of several boxes the last one counts.
        accepted: the references.
        question: the task's; what it counts may follow a number ("5 apples").

    Raises:
        ConfigError: `math-verify` is not installed.

    >>> judge_math(r"\boxed{\frac{2}{4}}", ("0.5",)).success, judge_math("-3", ("3",)).success
    (True, False)
    """
    _require_library()
    if too_wild(answer):
        return Verdict.of(False, "too long or too deep")
    notes = []
    for expected in accepted:
        verdict = _verdict(*without_nouns(answer, expected, question))
        if verdict.success:
            return verdict
        notes.append(verdict.note)
    return Verdict.of(False, next(filter(None, notes), ""))


def _verdict(answer: str, expected: str) -> Verdict:
    settled = settle(answer, expected)
    if settled is not None:
        return Verdict.of(settled)
    try:
        return Verdict.of(_equivalent(answer, expected))
    except Overrun as error:
        return Verdict.of(False, str(error))
    except Raised as error:
        return Verdict.of(False, f"unreadable ({error})"[:200])


def settle(answer: str, expected: str) -> bool | None:
    r"""Returns whether two answers are equal if that can be seen at once, otherwise None.

    >>> settle("$12$", "12.0"), settle("-3", "3"), settle(r"\text{Even}", "even"), settle("x", "y")
    (True, False, True, None)
    """
    given, wanted = unwrapped(answer), unwrapped(expected)
    if not given:
        return False
    if _is_word(wanted) or _is_word(given):
        if normalise(given) == normalise(wanted):
            return True
        return None if _SIGNS.search(given) or _SIGNS.search(wanted) else False
    if _same_letters(given, wanted):
        return True
    given, wanted = (without_spaces(to_latex(text)) for text in (given, wanted))
    if given == wanted and given:
        return True
    if _PLAIN.match(given) and _PLAIN.match(wanted):
        return Fraction(given.rstrip(".")) == Fraction(wanted.rstrip("."))
    return None


def _is_word(text: str) -> bool:
    """Says whether a text is words; three or more letters are a word rather than a product of variables, as "x y" is one."""
    return _WORD.match(text) is not None


def _same_letters(given: str, wanted: str) -> bool:
    """Says whether letters that stand apart are the same, such as "A B" and "a, b"; a hyphen may be a minus sign.

    Two lists with commas are left to `equivalence`: letters in them are variables, and A is not a.
    """
    plain = [plain_signs(text).casefold() for text in (given, wanted)]
    if not all(map(_LETTERS.match, plain)) or all("," in text for text in plain):
        return False
    return _DIVIDING.sub("", plain[0]) == _DIVIDING.sub("", plain[1])


@lru_cache(maxsize=8192)
def _equivalent(answer: str, expected: str) -> bool:
    """Asks the worker; the samples of one group often give the same answer."""
    return bool(shared_worker("arpo_envs.rewards.mathematics.equivalence:equivalent").call((answer, expected), seconds=SECONDS))


@lru_cache(maxsize=1)
def _require_library() -> None:
    if importlib.util.find_spec("math_verify") is None:
        raise ConfigError("Checking an answer of type \"math\" needs math-verify. Run: pip install 'math-verify[antlr4_13_2]'")
