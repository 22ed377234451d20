"""What counts as the same letter, word and name: one decision for worlds, questions, search and rewards."""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from anyascii import anyascii

_WORDS = re.compile(r"[^\W_]+")
_UNSPACED = frozenset({"THAI", "LAO", "KHMER", "MYANMAR"})
"""Unicode names of scripts without spaces, besides those of wide letters (Chinese, Japanese, Korean)."""
_PART_OF_A_LETTER = frozenset({0, 7, 8, 9, *range(84, 200)})
"""Combining classes of vowel and tone signs, nuktas, the marks of voiced kana, viramas: without them the letter changes."""


def fold(text: str) -> str:
    """Returns `text` without case, accents, punctuation and doubled spaces.

    Args:
        text: any text.

    >>> fold("  Saint-Étienne,  FRANCE "), fold("TROMSØ")
    ('saint etienne france', 'tromso')
    """
    return " ".join(words(text))


def words(text: str) -> list[str]:
    """Returns the folded words of `text`, in order; a letter of a script without spaces is a word of its own.

    >>> words("Côte d'Ivoire: .ci"), words("巴黎市２区")
    (['cote', 'd', 'ivoire', 'ci'], ['巴', '黎', '市', '2', '区'])
    """
    folded = without_accents(plain(text).casefold()).casefold()
    if folded.isascii():
        return _WORDS.findall(folded)
    return "".join(_with_spaces(unicodedata.normalize("NFKC", folded), keep_signs=False)).split()


def apart(text: str) -> str:
    """Returns `text` with spaces around each letter of a script that is written without them; nothing else changes.

    >>> apart("in 巴黎, 1.5")
    'in  巴  黎 , 1.5'
    """
    return text if text.isascii() else "".join(_with_spaces(text, keep_signs=True))


def without_accents(text: str) -> str:
    """Returns `text` with its accents removed and its letters kept; Latin letters become those of English.

    >>> without_accents("Mérignac"), without_accents("Łódź, Tromsø"), without_accents("ガーナ")
    ('Merignac', 'Lodz, Tromso', 'ガーナ')
    """
    if text.isascii():
        return text
    bare = (c for c in unicodedata.normalize("NFKD", text) if unicodedata.combining(c) in _PART_OF_A_LETTER)
    return unicodedata.normalize("NFC", "".join(map(_latin, bare)))


def plain(text: str) -> str:
    """Returns `text` with one form for each character: ａ and ﬁ are a and fi, ٣ is 3, but 5² stays 5², and ½ stays ½.

    What is not `visible` is removed.

    >>> plain("１２％ ﬁn"), plain("5²")
    ('12% fin', '5²')
    """
    return text if text.isascii() else unicodedata.normalize("NFC", "".join(map(_one_form, visible(text))))


def visible(text: str) -> str:
    """Returns `text` without what cannot be seen: zero-width spaces, soft hyphens, direction marks, joiners.

    >>> visible("Ham\u00adlet\u200b"), visible("✔\ufe0f")
    ('Hamlet', '✔')
    """
    return text if text.isascii() else "".join(character for character in text if not _is_invisible(character))


@lru_cache(maxsize=4096)
def _is_invisible(character: str) -> bool:
    is_selector = unicodedata.name(character, "").startswith("VARIATION SELECTOR")
    return is_selector or unicodedata.category(character) == "Cf"


@lru_cache(maxsize=4096)
def _one_form(character: str) -> str:
    if unicodedata.category(character) == "Nd":
        return str(unicodedata.digit(character))
    changes_meaning = unicodedata.decomposition(character).startswith(("<super>", "<sub>", "<fraction>"))
    return character if changes_meaning else unicodedata.normalize("NFKC", character)


@lru_cache(maxsize=4096)
def _latin(character: str) -> str:
    is_latin = not character.isascii() and unicodedata.name(character, "").startswith("LATIN ")
    return anyascii(character) or character if is_latin else character


def _with_spaces(text: str, *, keep_signs: bool) -> Iterator[str]:
    """Yields the text's characters, with spaces around those that are words of their own; marks stay with their letters."""
    alone = False
    for character in text:
        kind = _kind(character)
        if alone and kind != "mark":
            yield " "
            alone = False
        if kind == "word":
            yield " "
            alone = True
        yield character if kind != "sign" or keep_signs else " "


@lru_cache(maxsize=65536)
def _kind(character: str) -> str:
    """Returns "letter" (or digit), "word" for a letter that is one by itself, "mark", or "sign" for anything else."""
    if unicodedata.category(character)[0] == "M":
        return "mark"
    name = unicodedata.name(character, "")
    if not character.isalnum() or name.startswith("MODIFIER LETTER"):  # such as the turned comma in Hawaiʻi
        return "sign"
    unspaced = unicodedata.east_asian_width(character) in {"W", "F"} or name.partition(" ")[0] in _UNSPACED
    return "word" if unspaced else "letter"
