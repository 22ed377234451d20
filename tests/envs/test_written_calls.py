"""What is written is read back: every call of every registered environment, whatever its texts hold, in both dialects."""

import functools
from typing import Any

import gymnasium as gym
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import arpo_envs  # registers
from arpo_envs.dialects import Answer, Call, Dialect, make_dialect
from arpo_envs.tools import ToolSpec

IDS = sorted(name for name, spec in gym.registry.items() if spec.namespace == "ARPO")
OPTIONS: dict[str, dict[str, Any]] = {
    "ARPO/Search-v0": {"cities_per_country": 3, "python": True},
    "ARPO/Browser-v0": {"cities_per_country": 3, "search": True, "back": True},
    "ARPO/DeepSearch-v0": {"cities_per_country": 3, "back": True},
}
"""Quick to build, and with all tools; no episode is begun."""
NESTED = ToolSpec(
    "nested",
    "Takes anything.",
    {
        "type": "object",
        "properties": {"text": {"type": "string"}, "anything": {}, "many": {"type": "array"}, "named": {"type": "object"}},
        "required": ["text"],
    },
)
MADE_UP = [
    NESTED,
    ToolSpec("thinker", "Begins as a mark does.", NESTED.parameters),
    ToolSpec("now", "Takes nothing."),
]


@functools.cache
def dialect_of(source: str, name: str) -> Dialect:
    """Returns the dialect of an environment, or of the made-up tools."""
    if source == "made up":
        return make_dialect(name, MADE_UP)
    env = gym.make(source, dialect=name, **OPTIONS.get(source, {}))
    dialect: Dialect = env.get_wrapper_attr("dialect")
    env.close()
    return dialect


NAMES = ("search", "python", "browser.open", "nested", "answer", "think", "result", "tool_call", "tool_response")
PIECES = st.sampled_from(
    [
        *(f"<{slash}{name}>" for name in NAMES for slash in ("", "/")),
        *("</pyth", "<", ">", "\\", "\\u003c", "\\n", '"', "'", "\n", " ", "\t", "{", "}", "```", "\N{LINE SEPARATOR}", "\0"),
        *('{"', '{"text": ', '{"code": "x"}', '{"query": ', '{"name": "python", "arguments": ', "print('</python>')", "😀"),
    ]
)
TEXTS = (st.lists(PIECES | st.text(max_size=5), max_size=8).map("".join) | st.text()).filter(str.strip)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXTS,
    "integer": st.integers(),
    "number": st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "array": st.lists(VALUES, max_size=3),
    "object": st.dictionaries(TEXTS, VALUES, max_size=3),
}
EVERYWHERE = pytest.mark.parametrize("source", [*IDS, "made up"])
BOTH = pytest.mark.parametrize("name", ["tags", "json"])
BEFORE = st.sampled_from(["", "Let me see. ", "<think>a</think>\n", "a thought</think>", "<think> or <nested>?</think>"])


def arguments_of(spec: ToolSpec, drawn: st.DataObject) -> dict[str, Any]:
    """Draws the required arguments of a tool, and some of the others."""
    required = spec.parameters.get("required", ())
    return {
        argument: drawn.draw(KINDS.get(schema.get("type", ""), VALUES), label=argument)
        for argument, schema in spec.parameters.get("properties", {}).items()
        if argument in required or drawn.draw(st.booleans())
    }


@pytest.mark.turns("name")
@EVERYWHERE
@BOTH
@given(drawn=st.data(), before=BEFORE)
def test_every_call_is_read_back(source: str, name: str, drawn: st.DataObject, before: str) -> None:
    dialect = dialect_of(source, name)
    for spec in dialect.specs:  # type: ignore[attr-defined]
        arguments = arguments_of(spec, drawn)
        written = dialect.call(spec.name, arguments)
        assert dialect.parse(before + written) == Call(spec.name, arguments)
        assert dialect.parse(f"{before}{written} and more") == Call(spec.name, arguments)
        assert sum(written.count(stop) for stop in dialect.stop) == 1
        assert written.endswith(dialect.stop), "an engine that stops at the first one has the whole call"


@pytest.mark.turns("name")
@EVERYWHERE
@BOTH
@given(text=TEXTS)
@example(text="</python>")
@example(text="</tool_call>")
@example(text='{"code": "x"}')
@example(text='  print("</think> <answer>")\n')
def test_every_body_is_read_back(source: str, name: str, text: str) -> None:
    dialect = dialect_of(source, name)
    for spec in dialect.specs:  # type: ignore[attr-defined]
        if spec.text_parameter is not None:
            call = Call(spec.name, {spec.text_parameter: text})
            assert dialect.parse(dialect.call(call.tool, call.arguments)) == call


@pytest.mark.turns("name")
@EVERYWHERE
@BOTH
@given(text=TEXTS, before=BEFORE)
def test_every_answer_is_read_back_but_for_marks(source: str, name: str, text: str, before: str) -> None:
    dialect = dialect_of(source, name)
    said = before if name == "tags" or "think>" in before else ""  # in JSON, what is no thought is the answer
    assert dialect.parse(said + dialect.answer(text)) == Answer(dialect.neutralise(text).strip())


def test_there_is_something_to_check() -> None:
    assert arpo_envs.ToolEnv is not None
    tools = {spec.name for source in IDS for spec in dialect_of(source, "tags").specs}  # type: ignore[attr-defined]
    assert {"search", "python"} <= tools
