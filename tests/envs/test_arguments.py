"""How arguments are explained: every name, type, choice, default and meaning of a schema, with a call that works."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arpo_envs.arguments import arguments_in, described, example
from arpo_envs.dialects import Call, Mistake, TagDialect, make_dialect
from arpo_envs.tools import ToolSpec, complaint

TEXT = {"type": "string"}


def tool(required: list[str], definitions: object = None, **properties: object) -> ToolSpec:
    return ToolSpec(
        "f", "Does it.", {"type": "object", "properties": properties, "required": required, "$defs": definitions or {}}
    )


FIND = tool(["query"], query=TEXT | {"description": "what to\n look for"}, limit={"type": "integer", "default": 5})
OPEN = tool(["site", "page"], site=TEXT, page={"type": "integer", "minimum": 3}, mode={"enum": ["text", "links"]})

LINES = [
    (TEXT, "x (string, required)", "…"),
    (TEXT | {"description": "which\n  one"}, "x (string, required): which one", "…"),
    ({"type": "integer"}, "x (integer, required)", 1),
    ({"type": "integer", "minimum": 3}, "x (integer, required)", 3),
    ({"type": "number"}, "x (number, required)", 1.5),
    ({"type": "boolean"}, "x (boolean, required)", True),
    ({"enum": ["a", 2]}, 'x ("a" or 2, required)', "a"),
    ({"const": "a"}, 'x ("a", required)', "a"),
    ({"type": "string", "default": "é"}, "x (string, required)", "é"),
    ({"type": "string", "examples": ["Köln"]}, "x (string, required)", "Köln"),
    ({"type": ["integer", "null"]}, "x (integer or null, required)", 1),
    ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "x (integer or null, required)", 1),
    ({"oneOf": [{"type": "integer"}, {"type": "integer", "minimum": 2}]}, "x (integer, required)", 1),
    ({"type": "array"}, "x (array, required)", []),
    ({"type": "array", "items": {"type": "integer"}}, "x (array of integer, required)", [1]),
    ({"type": "object"}, "x (object, required)", {}),
    (
        {"type": "object", "properties": {"a": TEXT, "b": {"type": "integer"}}, "required": ["b"]},
        "x (object of a: string, b: integer, required)",
        {"b": 1},
    ),
    ({"$ref": "#/$defs/page"}, "x (integer, required): which page", 7),
    ({"$ref": "#/$defs/page", "description": "the first"}, "x (integer, required): the first", 7),
    ({"$ref": "#/$defs/missing"}, "x (any value, required)", "…"),
    ({}, "x (any value, required)", "…"),
    (True, "x (any value, required)", "…"),
]


@pytest.mark.parametrize(("schema", "line", "value"), LINES)
def test_an_argument_is_described_and_has_an_example(schema: object, line: str, value: object) -> None:
    spec = tool(["x"], {"page": {"type": "integer", "minimum": 7, "description": "which page"}}, x=schema)
    assert described(spec) == [line]
    assert json.loads(example(spec)) == {"x": value}


def test_a_schema_that_contains_itself_is_described_up_to_a_depth() -> None:
    spec = tool(
        ["x"], {"tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}}}, x={"$ref": "#/$defs/tree"}
    )
    assert described(spec)[0].startswith("x (object of left: object of left: ")
    assert json.loads(example(spec))["x"]["left"]
    loop = tool(["x"], {"a": {"$ref": "#/$defs/a"}}, x={"$ref": "#/$defs/a"})
    assert described(loop) == ["x (any value, required)"]


def test_what_is_optional_says_its_default() -> None:
    assert described(FIND) == ["query (string, required): what to look for", "limit (integer, default 5)"]
    assert described(OPEN)[2] == 'mode ("text" or "links", optional)'
    assert example(FIND) == '{"query": "…"}'
    assert example(FIND, optional=True) == '{"query": "…", "limit": 5}'
    assert example(tool([], a=TEXT, b=TEXT)) == '{"a": "…", "b": "…"}'


def test_tags_explain_a_tool_with_several_arguments() -> None:
    lines = TagDialect((FIND,)).instructions().splitlines()[1:-1]
    assert lines == [
        "- <f>query</f>: Does it. The result comes back in <result>."
        ' With more arguments, write a JSON object: <f>{"query": "…", "limit": 5}</f>.',
        "  - query (string, required): what to look for",
        "  - limit (integer, default 5)",
    ]
    lines = TagDialect((OPEN,)).instructions().splitlines()[1:-1]
    assert lines == [
        '- <f>{"site": "…", "page": 3}</f>: Does it. The result comes back in <result>. Its arguments are a JSON object.',
        "  - site (string, required)",
        "  - page (integer, required)",
        '  - mode ("text" or "links", optional)',
    ]
    assert TagDialect((tool([]),)).instructions().splitlines()[1].startswith("- <f></f>: Does it.")


@pytest.mark.parametrize("spec", [FIND, OPEN])
def test_the_call_that_is_shown_works(spec: ToolSpec) -> None:
    tags = TagDialect((spec,))
    shown = json.loads(example(spec, optional=True))
    assert complaint(spec, shown) is None
    assert tags.parse(f"<f>{example(spec, optional=True)}</f>") == Call("f", shown)


# --- a text, or an object that holds it -----------------------------------------------------------------------


@given(
    query=st.one_of(st.text(min_size=1), st.sampled_from(['{"query": "x"}', '{"a": 1}', "{", "1", "[]"])), limit=st.integers()
)
def test_a_call_is_read_as_it_was_written(query: str, limit: int) -> None:
    tags = TagDialect((FIND,))
    if not query.strip():
        return
    for arguments in ({"query": query}, {"query": query, "limit": limit}):
        assert tags.parse(tags.call("f", arguments)) == Call("f", arguments)


def test_only_an_object_with_the_text_in_it_is_one_of_arguments() -> None:
    for body in ("Köln", "{", "[]", '"query"', '{"limit": 3}', "[" * 100_000):
        assert arguments_in(FIND, body) is None
    assert arguments_in(FIND, '{"query": "Köln"}') == {"query": "Köln"}
    alone = tool(["query"], query=TEXT)
    assert arguments_in(alone, '{"query": "Köln"}') == {"query": "Köln"}, "so a text can hold its own closing tag"
    assert arguments_in(alone, '{"query": 1}') is arguments_in(alone, '{"query": "a", "b": 1}') is None
    assert arguments_in(OPEN, '{"site": "a"}') is None, "its body is always an object"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"site": "a"}', "f needs the argument 'page'."),
        ('{"site": "a", "page": 3, "zoom": 2}', "f has no argument 'zoom'; its arguments are: site, page, mode."),
        ('{"site": "a", "page": "3"}', "The argument 'page' of f must be of type integer."),
        ("first", 'The arguments of f must be a JSON object, such as {"site": "…", "page": 3}.'),
    ],
)
@pytest.mark.parametrize("name", ["tags", "json"])
def test_a_bad_call_is_told_which_argument_is_wrong(name: str, body: str, said: str) -> None:
    dialect = make_dialect(name, [OPEN])
    call = f"<f>{body}</f>"
    if name == "json":
        arguments = body if body.startswith("{") else json.dumps(body)
        call = f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>'
    assert dialect.parse(call) == Mistake("call", said)
    if name == "tags":
        find = TagDialect((FIND,)).parse('<f>{"query": "x", "limt": 2}</f>')
        assert find == Mistake("call", "f has no argument 'limt'; its arguments are: query, limit.")


@pytest.mark.parametrize("kind", ["number", "integer"])
@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan"), 10**400, -(10**400)])
def test_a_number_that_json_does_not_have_is_refused(kind: str, value: float) -> None:
    spec = tool(["size"], size={"type": kind})
    wrong = complaint(spec, {"size": value})
    assert wrong is not None
    expected = "must be a finite number" if kind == "number" or isinstance(value, int) else "must be of type integer"
    assert expected in wrong
    assert complaint(spec, {"size": 10**300}) is None


@pytest.mark.parametrize("value", ["1e999", "-1e999", "NaN", "Infinity", "9" * 400])
@pytest.mark.parametrize("kind", ["number", "integer", ["number", "null"], "array"])
def test_a_model_that_writes_such_a_number_is_told(kind: str | list[str], value: str) -> None:
    spec = tool(["size"], size={"type": kind})
    body = f'{{"size": {f"[{value}]" if kind == "array" else value}}}'
    calls = {"tags": f"<f>{body}</f>", "json": f'<tool_call>{{"name": "f", "arguments": {body}}}</tool_call>'}
    for dialect, text in calls.items():
        found = make_dialect(dialect, (spec,)).parse(text)
        assert isinstance(found, Mistake)
        assert "too large a number" in found.text or "is not a JSON number" in found.text
