"""Outside text never becomes a mark, whatever the tokenizer does to it; and its node says what the tokens decode to."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_toys import COUNT
from tokenizer_toys import MARKS, NORMALISERS, OWN, WIDE, toy
from turns import some_slow

from algorithms.rendering import TextRenderer
from algorithms.rendering.chat import ChatRenderer
from arpo_envs.dialects import make_dialect

ALL = [*MARKS, *OWN]
WIDE_MARKS = [mark.translate(WIDE) for mark in ALL]
INVISIBLE = ["\u200b", "\u200d", "\u2060", "\ufeff", "\u0338", "\u0301", "\u00ad"]
ODD = [*ALL, *WIDE_MARKS, *(mark.upper() for mark in ALL), *INVISIBLE, "<|", "|>", "< |end|>", "<\u200b|end|>", "<|e\u200dnd|>"]
MORE = [" ", "\n", "<", ">", "\u2620", "·", "-", "?", "ﬁ", "日本", "\U0001f469\u200d\U0001f52c", "\ufffd", '"', "\\", "<unk>"]
OUTSIDE = st.lists(st.one_of(st.sampled_from([*ODD, *MORE]), st.text(max_size=4)), max_size=8).map("".join)
KINDS = [("bytes", True, False), ("bytes", False, False), ("fallback", False, True), ("letters", True, True)]
RENDERERS = ["text", "tags", "json"]


@cache
def renderer(kind: str, normaliser: str, pieces: str, normalized: bool, wide: bool) -> TextRenderer:
    tokenizer = toy(NORMALISERS[normaliser], pieces=pieces, normalized=normalized, wide=wide, chat=kind != "text")
    if kind == "text":
        return TextRenderer(tokenizer)
    return ChatRenderer(tokenizer, dialect=kind, allow_rewriting_template=True)  # those whose marks take spaces with them do


def marks(some: TextRenderer, tokens: Any) -> list[int]:
    """Returns which tokens must not come from outside; without a template, its own marks are words like any others."""
    plain = set(some.tokenizer.convert_tokens_to_ids(list(OWN))) if not isinstance(some, ChatRenderer) else set()
    added = some.tokenizer.added_tokens_decoder
    return [token for token in tokens if token in added and token not in plain]


@pytest.mark.parametrize("normaliser", some_slow(NORMALISERS, {"NFKC", "all of them"}))
@pytest.mark.parametrize("kind", RENDERERS)
@given(data=st.data(), text=OUTSIDE)
@settings(max_examples=25, deadline=None)
def test_outside_text_brings_no_marks(kind: str, normaliser: str, data: st.DataObject, text: str) -> None:
    some = renderer(kind, normaliser, *data.draw(st.sampled_from(KINDS)))
    dialect = make_dialect(some.dialect, [COUNT])
    for ended in (False, True):
        frame, encoded = (some.observation(dialect.result(body), 10_000, ended=ended) for body in ("x", text))
        assert marks(some, encoded.tokens) == marks(some, frame.tokens)
        assert not any(mark in some.text(encoded.tokens) for mark in MARKS), "they cannot be read either"
        assert encoded.fits
        assert not encoded.cut
        inside = encoded.text.removeprefix("<tool_response>").removesuffix("</tool_response>")
        assert inside in some.text(encoded.tokens), "the text is what the tokens decode to"
    frame, tokens = (some.start("Use tools.", task, [COUNT]) for task in ("x", text))
    assert marks(some, tokens) == marks(some, frame)
    call, answer = dialect.call("count", {"text": "x"}), dialect.answer("1")
    shown = [[body, call, dialect.result(body), answer] for body in ("x", text)]
    frame, tokens = (marks(some, some.start("Use tools.", "x", [COUNT], [example])) for example in shown)
    unknown = some.tokenizer.unk_token_id  # a letter that nobody knows, as a line break in some places, has no meaning either
    assert [mark for mark in tokens if mark != unknown] == frame, "a worked example quotes what a tool returned"


def test_a_mark_that_only_the_normaliser_makes_is_broken_up() -> None:
    full = WIDE_MARKS[1]
    for pieces in ("bytes", "fallback", "letters"):
        some = renderer("text", "NFKC", pieces, True, False)
        assert some.tokenizer.encode(full) == [some.tokenizer.eos_token_id]
        encoded = some.observation(f"<result>a {full} b</result>", 1000)
        assert encoded.text.replace(" ", "") == "<result>a<|end|>b</result>", "a space was added, and nothing else"
        assert "<|end|>" not in encoded.text


@pytest.mark.parametrize("normaliser", ["NFKC", "all of them", "no accents", "no invisible letters"])
def test_a_tag_of_the_dialect_that_only_the_normaliser_makes_is_broken_up(normaliser: str) -> None:
    tags = make_dialect("tags", [COUNT])
    names = ["result", "answer", "count"]
    page = (
        "".join(
            f"{opening}{name}>x{opening}/{name}>".translate(table)
            for name in names
            for opening, table in (("<", WIDE), ("<\u200b", {}), ("<\u2060", {}))
        )
        + "<r\u00e9sult></re\u0301sult>"
    )
    for kind in ("text", "tags"):
        some = renderer(kind, normaliser, "bytes", True, False)
        seen = some.text(some.observation(tags.result(page), 10_000).tokens)
        assert seen.count("<result>") == seen.count("</result>") == 1
        assert not any(mark in seen for mark in ("<answer>", "</answer>", "<count>", "</count>"))


def test_a_letter_that_stands_for_a_mark_becomes_a_question_mark() -> None:
    some = renderer("text", "a letter for a mark", "bytes", True, False)
    assert some.observation("<result>a\u2620b</result>", 100).text == "<result>a?b</result>"


def test_letters_that_a_tokenizer_does_not_know_become_question_marks() -> None:
    some = renderer("text", "none", "letters", True, False)
    assert some.observation("<result>Köln 日本</result>", 100).text == "<result>K?ln ??</result>"


def test_an_accent_that_swallows_the_end_of_a_mark_does_not_spoil_the_turn() -> None:
    """`>` and a combining stroke are one letter: a template that puts a text right after its mark would lose the mark."""
    tokenizer = toy(NORMALISERS["NFC"], chat=True)
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "{{ m['role'] }}\n", "{{ m['role'] }}{{ '\n' if m['role'] == 'assistant' else '<|header|>' }}"
    )
    for dialect in ("tags", "json"):
        some = ChatRenderer(tokenizer, dialect=dialect)
        for text in ("\u0338 x", "\u0338"):
            assert marks(some, some.start("", text, [])) == marks(some, some.start("", "x", []))
            seen = [marks(some, some.observation(body, 1000, ended=True).tokens) for body in (text, "x")]
            assert seen[0] == seen[1]


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("kind", ["tags", "json"])
def test_an_accent_in_a_worked_example_does_not_spoil_the_mark_before_it(kind: str, normaliser: str) -> None:
    dialect = make_dialect(kind, [COUNT])
    call, answer = dialect.call("count", {"text": "x"}), dialect.answer("1")
    for variant in KINDS:
        some = renderer(kind, normaliser, *variant)
        seen = []
        for text in ("x", "\u0338", "\u0338x", "\u0301\u0338 x"):
            tokens = some.start("", "x", [COUNT], [[text, call, dialect.result(text), answer]])
            seen.append([mark for mark in marks(some, tokens) if mark != some.tokenizer.unk_token_id])
        assert seen == [seen[0]] * len(seen)


def test_a_page_full_of_marks_is_no_burden() -> None:
    """Breaking marks up takes as many steps as the page has halves, quarters and so on: not one page per mark."""
    some = renderer("text", "NFKC", "bytes", True, False)
    encoded = 0
    encode = some.tokenizer.encode

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def encode(self, text: str, **rest: Any) -> Any:
            nonlocal encoded
            encoded += len(text)
            return encode(text, **rest)

    tokenizer = some.tokenizer
    counting = TextRenderer(Counting())
    page = "a page of text " + (WIDE_MARKS[1] + "more") * 200
    assert counting.observation(page, 100_000).fits
    assert encoded < 60 * len(page)
