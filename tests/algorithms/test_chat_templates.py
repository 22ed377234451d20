"""The table of templates in docs/use-a-model.md is what these templates do."""

import re
from pathlib import Path

import pytest
from chat_toys import Family, chat_tokenizer, shipped_template

from algorithms.rendering.chat import ChatRenderer
from arpo_envs.errors import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "use-a-model.md"
TABLE = PAGE.read_text(encoding="utf-8").partition("| template, as in `trl`")[2]
ROWS = re.findall(r"^\| ((?:`\w+` ?)+) \| ([^|]+) \| ([^|]+) \|$", TABLE, re.MULTILINE)
CASES = [(name, *said) for names, *said in ROWS for name in re.findall(r"\w+", names)]
MARKS = re.compile(r"<[|｜][^<>|｜{}'\"]{1,40}[|｜]>|<(?:start|end)_of_turn>|<bos>|<\|[a-z_]+>|<[a-z_]+\|>")
PLAIN = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")


def family(name: str) -> Family:
    """Returns a family whose control tokens are those its template writes."""
    source = shipped_template(name)
    special = ("<begin>", *dict.fromkeys(MARKS.findall(source)), "<end>")
    return Family(name, special, tuple(mark for mark in PLAIN if mark in source), bos="<begin>")


def test_the_table_is_there() -> None:
    assert len(CASES) == 28
    assert {kept for _, kept, _ in CASES} == {"kept", "rewritten", "cannot be continued turn by turn"}


@pytest.mark.parametrize(("name", "history", "calls"), CASES)
def test_the_table_says_what_a_template_does(name: str, history: str, calls: str) -> None:
    tokenizer = chat_tokenizer(family(name))
    ChatRenderer(tokenizer, dialect="tags")
    if history == "cannot be continued turn by turn":
        with pytest.raises(ConfigError, match=r"separate turns"):
            ChatRenderer(tokenizer, dialect="json")
        return
    if history == "rewritten":
        with pytest.raises(ConfigError, match="rewrites earlier turns"):
            ChatRenderer(tokenizer, dialect="json")
    some = ChatRenderer(tokenizer, dialect="json", allow_rewriting_template=True)
    assert bool(some.rewrites) == (history == "rewritten")
    assert some._native == (calls == "own format")
