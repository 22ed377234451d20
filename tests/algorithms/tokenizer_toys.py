"""Tokenizers that make something else of a text than its letters: normalisers, bytes as pieces, unknown letters, added ends."""

from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

MARKS = ("<|begin|>", "<|end|>", "<|header|>")
"""Begin a text, end a text or turn, begin a turn."""
OWN = ("<tool_response>", "</tool_response>", "<think>", "</think>")
"""Added tokens that are not special, but that the template gives a meaning."""
TEMPLATE = (
    "{# <think> </think> #}{% for m in messages %}<|header|>{{ m['role'] }}\n"
    "{% if m['role'] == 'tool' %}<tool_response>{{ m['content'] }}</tool_response>{% else %}{{ m['content'] }}{% endif %}"
    "<|end|>{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% if add_generation_prompt %}<|header|>assistant\n{% endif %}"
)
WIDE = {ord(c): ord(c) + 0xFEE0 for c in "<>|/abcdefghijklmnopqrstuvwxyz"}
"""Makes letters full-width."""

NORMALISERS: dict[str, Any] = {
    "none": None,
    "NFC": normalizers.NFC(),
    "NFKC": normalizers.NFKC(),
    "NFKD": normalizers.NFKD(),
    "small letters": normalizers.Lowercase(),
    "no spaces": normalizers.Replace(" ", ""),
    "no spaces around": normalizers.Strip(),
    "no invisible letters": normalizers.Replace(Regex("[\u200b-\u200d\u2060\ufeff]"), ""),
    "no accents": normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents()]),
    "a letter for a mark": normalizers.Replace("\u2620", "<|end|>"),
    "all of them": normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex("[\u200b-\u200d\u2060\ufeff \u00b7-]"), ""),
            normalizers.Strip(),
        ]
    ),
    "marks only": normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex("[^a-z<>|/_\n]"), "")]),
}


def toy(
    normaliser: Any = None,
    *,
    pieces: str = "bytes",
    normalized: bool = True,
    wide: bool = False,
    ends: str = "",
    chat: bool = False,
) -> PreTrainedTokenizerFast:
    """Returns a small tokenizer.

    Args:
        normaliser: changes a text before it is encoded.
        pieces: "bytes": byte-level BPE; "fallback": letters, and bytes for all others; "letters":
            ASCII, all others unknown.
        normalized: whether marks are looked for in the normalised text.
        wide: whether a mark takes the spaces around it with it.
        ends: what is put around a text, e.g. "<|begin|> $A <|end|>".
        chat: whether it has a template.
    """
    tokenizer, unknown = _model(pieces)
    if normaliser is not None:
        own = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
        tokenizer.normalizer = normalizers.Sequence([normaliser, *own])
    options = {"normalized": normalized, "lstrip": wide, "rstrip": wide}
    tokenizer.add_special_tokens([AddedToken(mark, special=True, **options) for mark in MARKS])
    tokenizer.add_tokens([AddedToken(mark, special=False, **options) for mark in OWN])
    if ends:
        marks = [(mark, tokenizer.token_to_id(mark)) for mark in MARKS]
        tokenizer.post_processor = processors.TemplateProcessing(single=ends, special_tokens=marks)
    names = {"bos_token": MARKS[0], "eos_token": MARKS[1]} | ({"unk_token": unknown} if unknown else {})
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    if chat:
        wrapped.chat_template = TEMPLATE
    return wrapped


def _model(pieces: str) -> tuple[Tokenizer, str]:
    ascii_letters = [chr(code) for code in range(32, 127)]
    if pieces == "bytes":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        merges = [("<", "|"), ("|", ">"), ("e", "n"), ("en", "d")]
        words = [*alphabet, *map("".join, merges)]
        tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer, ""
    spelt = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))] if pieces == "fallback" else ["<unk>"]
    words = list(dict.fromkeys([*spelt, "▁", *(letter for letter in ascii_letters if letter != " "), "\n"]))
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=pieces == "fallback"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Replace("▁", " ")
    if pieces == "fallback":  # a space before the text, as Llama 2 has it
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), tokenizer.normalizer])
        parts = [tokenizer.decoder, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(parts)
    return tokenizer, "<unk>"
