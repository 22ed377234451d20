"""A tokenizer for one environment: a name is one token wherever it occurs, and unknown text falls back to bytes."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

END, PAD = "<|end|>", "<|pad|>"

LINK_MARKS = ("【", "†", "】")
"""Around a link in a page, as in 【3†Paris】."""

_SPACE = "▁"
_LINK = re.compile(rf'{_SPACE}\{{"id":{_SPACE}\d+\}}')
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def build_tokenizer(names: Iterable[str], texts: Iterable[str], marks: Sequence[str], phrases: Iterable[str] = ()) -> Any:
    """Returns a `transformers` tokenizer whose vocabulary is given, not learned.

    Args:
        names: each becomes one token, however many words it has.
        texts: examples of everything else; each of their words becomes one token.
        marks: the dialect's tags; each becomes one token.
        phrases: each becomes one token exactly as it is, spaces included; see `phrases_between`.

    Any text can be encoded: what is not in the vocabulary falls back to characters, then to bytes.
    A space is put before a name at the beginning of a text, after a tag or in a link, so that a name is one
    token there too. Decoding an encoded text changes nothing but such spaces.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = dict.fromkeys(["<unk>", END, PAD])
    pieces |= dict.fromkeys(f"<0x{byte:02X}>" for byte in range(256))
    pieces |= dict.fromkeys(chr(code) for code in range(33, 127))
    pieces |= dict.fromkeys([_SPACE, *(f"{_SPACE}{digit}" for digit in range(10))])
    pieces |= dict.fromkeys(marks)
    pieces |= dict.fromkeys(_SPACE + word for text in texts for word in re.findall(r"[^\W\d_]+", text))
    pieces |= dict.fromkeys(_SPACE + name.replace(" ", _SPACE) for name in names)
    pieces |= dict.fromkeys(phrase.replace(" ", _SPACE) for phrase in phrases)
    # Every piece costs the same, so the fewest pieces win; bytes and <unk> are never chosen for their own spelling.
    scores = [(piece, -1000.0 if re.fullmatch(r"<0x[0-9A-F]{2}>|<unk>", piece) else -10.0) for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"^(?=[^\s<])|(?<=[>\n†])(?=[^\s<])"), " "), normalizers.Replace(" ", _SPACE)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="never", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Replace(_SPACE, " "), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)  # type: ignore[no-untyped-call]


def name_ids(tokenizer: Any, names: Iterable[str]) -> list[int]:
    """Returns the ids of the names that are one token, in order of the ids."""
    found = {tuple(tokenizer.encode(name, add_special_tokens=False)) for name in names}
    return sorted(ids[0] for ids in found if len(ids) == 1)


def link_ids(tokenizer: Any) -> list[int]:
    """Returns the ids of the tokens that ask for a link of a page by its number, in order of the ids."""
    return sorted(index for piece, index in tokenizer.get_vocab().items() if _LINK.fullmatch(piece))


def phrases_between(tokenizer: Any, known: Iterable[int], texts: Sequence[str], *, least: int = 3) -> list[str]:
    """Returns the phrases that recur between known tokens in several texts; in calls with code, the code around names.

    Args:
        tokenizer: without phrases.
        known: ids of the names and tags.
        texts: examples of calls.
        least: the number of texts in which a phrase must occur; rarer ones are spelt in smaller pieces.

    Returns:
        The phrases, in order of their first occurrence; none where calls consist of names, as in a search.
    """
    known = frozenset(known)
    count: dict[str, int] = {}
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False)
        runs = (
            "".join(tokenizer.convert_ids_to_tokens(list(run)))
            for inside, run in groupby(ids, known.__contains__)
            if not inside
        )
        for run in dict.fromkeys(run for run in runs if not _BYTE.search(run)):
            count[run] = count.get(run, 0) + 1
    return [phrase.replace(_SPACE, " ") for phrase, times in count.items() if times >= least]


def layout(tokenizer: Any, names: Iterable[int], pages: Sequence[str]) -> list[str]:
    """Returns the phrases that pages are laid out with; names, words, digits and hyphens are no part of one.

    Pages are several times as long as other results, and most of that is not language: a line's number, a link's brackets,
    the address. A token for each of these keeps an episode short; digits stay apart, because links are named by them.

    Args:
        tokenizer: without phrases.
        names: ids of the names.
        pages: examples of pages.
    """
    apart = [
        piece
        for piece in tokenizer.get_vocab()
        if piece in LINK_MARKS or re.fullmatch(r"▁?\d|▁[^\W\d_]+|-|<0x0A>|</?\S+>", piece)
    ]
    return phrases_between(tokenizer, {*names, *tokenizer.convert_tokens_to_ids(apart)}, pages)
