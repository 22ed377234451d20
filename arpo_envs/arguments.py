"""A tool's arguments in words, from its JSON schema: for a model's instructions and for a player's help."""

import json
from collections.abc import Mapping
from typing import Any

from .tools.spec import ToolSpec

Schema = Mapping[str, Any]

_SAMPLES = {"string": "…", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}, "null": None}
_DEEPEST = 4
"""A schema may contain itself; deeper levels are not described."""


def described(spec: ToolSpec) -> list[str]:
    """Returns one line per argument: its name, type and meaning, and whether it is required or its default.

    >>> number = {"type": "integer", "default": 1, "description": "which page"}
    >>> schema = {"type": "object", "properties": {"site": {"type": "string"}, "page": number}, "required": ["site"]}
    >>> described(ToolSpec("open", "Opens a page.", schema))
    ['site (string, required)', 'page (integer, default 1): which page']
    """
    required = spec.parameters.get("required", ())
    lines = []
    for name, schema in _properties(spec.parameters).items():
        schema = _resolved(schema, spec.parameters)
        default = f"default {_json(schema['default'])}" if "default" in schema else "optional"
        meaning = " ".join(str(schema.get("description", "")).split())
        line = f"{name} ({_kind(schema, spec.parameters)}, {'required' if name in required else default})"
        lines.append(f"{line}: {meaning}" if meaning else line)
    return lines


def example(spec: ToolSpec, *, optional: bool = False) -> str:
    """Returns a JSON object of arguments: the required ones, or all if none is required.

    Args:
        spec: the tool's specification.
        optional: whether to include the arguments that are not required, too.

    >>> schema = {"type": "object", "properties": {"site": {"type": "string"}, "page": {"enum": [1, 2]}}}
    >>> example(ToolSpec("open", "Opens a page.", schema))
    '{"site": "…", "page": 1}'
    """
    schema = {**spec.parameters, "required": []} if optional else spec.parameters
    return _json(_object(schema, spec.parameters, 0))


def arguments_in(spec: ToolSpec, body: str) -> dict[str, Any] | None:
    """Returns the arguments that a body gives by name; None if the body is a single string.

    The body of a tool with one required string is that string, or an object that holds it; if the tool has no other argument,
    the object may hold nothing else.

    >>> search = ToolSpec("search", "Searches.", {"properties": {"query": {"type": "string"}}, "required": ["query"]})
    >>> arguments_in(search, '{"query": "x"}'), arguments_in(search, '{"query": "x", "y": 1}'), arguments_in(search, "x")
    ({'query': 'x'}, None, None)
    """
    if spec.text_parameter is None or not body.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(body, strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or spec.text_parameter not in found:
        return None
    alone = len(_properties(spec.parameters)) < 2
    if alone and not (len(found) == 1 and isinstance(found[spec.text_parameter], str)):
        return None
    return found


def _kind(schema: Schema, root: Schema, depth: int = 0) -> str:
    """Describes the values that a schema accepts in a few words."""
    if depth > _DEEPEST:
        return "any value"
    if "const" in schema or "enum" in schema:
        return " or ".join(map(_json, schema.get("enum", [schema.get("const")])))
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        kinds = (_kind(_resolved(choice, root), root, depth + 1) for choice in choices)
        return " or ".join(dict.fromkeys(kinds))
    types = schema.get("type", "object" if _properties(schema) else "any value")
    if types == "array" and isinstance(schema.get("items"), Mapping):
        return f"array of {_kind(_resolved(schema['items'], root), root, depth + 1)}"
    if types == "object" and _properties(schema):
        inside = ((name, _kind(_resolved(part, root), root, depth + 1)) for name, part in _properties(schema).items())
        return f"object of {', '.join(f'{name}: {kind}' for name, kind in inside)}"
    return " or ".join(map(str, types)) if isinstance(types, list) else str(types)


def _sample(schema: Schema, root: Schema, depth: int) -> Any:
    """Returns a value that a schema accepts, as far as its types tell."""
    for known, several in (("default", False), ("const", False), ("enum", True), ("examples", True)):
        if schema.get(known) is not None and not (several and not schema[known]):
            return schema[known][0] if several else schema[known]
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices and depth <= _DEEPEST:
        return _sample(_resolved(choices[0], root), root, depth + 1)
    types = schema.get("type", "object" if _properties(schema) else "string")
    kind = types[0] if isinstance(types, list) and types else types
    if kind == "array" and isinstance(schema.get("items"), Mapping) and depth <= _DEEPEST:
        return [_sample(_resolved(schema["items"], root), root, depth + 1)]
    if kind == "object":
        return _object(schema, root, depth + 1)
    if kind in ("integer", "number") and "minimum" in schema:
        return schema["minimum"]
    return _SAMPLES.get(str(kind), "…")


def _object(schema: Schema, root: Schema, depth: int) -> dict[str, Any]:
    properties = _properties(schema)
    if depth > _DEEPEST:
        return {}
    names = [name for name in properties if name in schema.get("required", ())] or list(properties)
    return {name: _sample(_resolved(properties[name], root), root, depth) for name in names}


def _properties(schema: Schema) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = schema.get("properties", {})
    return properties


def _resolved(schema: Any, root: Schema) -> Schema:
    """Returns a schema, or the one of the same document that it refers to; empty if it says nothing."""
    for _ in range(_DEEPEST):
        target = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not isinstance(target, str) or not target.startswith("#/"):
            break
        found: Any = root
        for part in target[2:].split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
        schema = {**(found if isinstance(found, Mapping) else {}), **{k: v for k, v in schema.items() if k != "$ref"}}
    return schema if isinstance(schema, Mapping) else {}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
