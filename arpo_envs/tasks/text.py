"""Folding of names: the one notion of "the same name" that world, questions and search share."""

import re
import unicodedata

_WORDS = re.compile(r"[^\W_]+")


def fold(text: str) -> str:
    """Returns `text` without case, accents, punctuation and doubled spaces.

    Args:
        text: any text.

    >>> fold("  Saint-Étienne,  FRANCE ")
    'saint etienne france'
    """
    return " ".join(words(text))


def words(text: str) -> list[str]:
    """Returns the folded words of `text`, in order.

    >>> words("Côte d'Ivoire: .ci")
    ['cote', 'd', 'ivoire', 'ci']
    """
    return _WORDS.findall(without_accents(text).casefold())


def without_accents(text: str) -> str:
    """Returns `text` with its accents removed and its letters kept.

    >>> without_accents("Mérignac")
    'Merignac'
    """
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
