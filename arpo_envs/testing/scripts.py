"""Action sequences to check an environment with, when its author gives none."""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core import ToolEnv
from ..members import DIALECT, MIXED
from ..multi_agent import SingleAgent
from ..spaces import TextSpace
from ..tools.spec import ToolSpec
from .runs import Env

_JUNK = "hm <<< >>> {]} é 你好 \x00"
_SAMPLED = 6


def default_scripts(env: Env, observation: Any) -> list[list[Any]]:
    """Returns action sequences for an episode that has just begun with `observation`.

    A `ToolEnv`, one agent of several, or a mixture, gets well-formed calls (its tools' examples, or words of its question), a
    mistake, junk and an answer; any other environment, or one whose actions a wrapper made something else, gets samples of its
    action space.
    """
    base = speaking(env)
    return [_sampled(env, seed) for seed in (11, 12)] if base is None else _tool_scripts(base, str(observation))


def speaking(env: Env) -> Any:
    """Returns the base environment in whose dialect a stack's actions are written, if there is one.

    That is a `ToolEnv`, one agent of several, or a mixture.
    """
    base = env.unwrapped
    speaks = (isinstance(base, ToolEnv | SingleAgent) or MIXED.of(base)) and DIALECT.of(base) is not None
    return base if speaks and isinstance(env.action_space, TextSpace) else None


def _sampled(env: Env, seed: int) -> list[Any]:
    """Draws from a copy of the space: the environment's own generator is part of the state under test."""
    space = copy.deepcopy(env.action_space)
    space.seed(seed)
    return [space.sample() for _ in range(_SAMPLED)]


def _tool_scripts(base: Any, question: str) -> list[list[str]]:
    words = re.findall(r"\w+", question) or ["word"]
    capitalised = [word for word in words[1:] if word[0].isupper()] or words
    tried = example_calls(base.tool_specs, (capitalised[-1], words[-1], capitalised[0]))
    calls = [base.dialect.call(name, arguments) for name, arguments in tried]
    answer = base.dialect.answer(words[-1])
    calls = calls or [_JUNK]
    return [
        [*calls[:4], "<unknown>mistake</unknown>", _JUNK, *calls[-1:], answer],
        [*calls[::-1], _JUNK, *calls * 4],  # never answers: runs out of turns
        [calls[-1], answer],
    ]


def example_calls(specs: Sequence[ToolSpec], words: Sequence[str]) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns one call of each tool per word: with the tool's own examples in turn, or with the word if it has none.

    >>> cell = ToolSpec("python", "Runs.", examples=({"code": "1"}, {"code": "2"}))
    >>> example_calls((cell,), ("one", "two", "one"))
    [('python', {'code': '1'}), ('python', {'code': '2'}), ('python', {'code': '1'})]
    """
    return [
        (spec.name, spec.examples[i % len(spec.examples)] if spec.examples else example_arguments(spec, word))
        for i, word in enumerate(words)
        for spec in specs
    ]


def example_arguments(spec: ToolSpec, word: str) -> dict[str, Any]:
    """Returns valid arguments for the required parameters of a tool, with `word` for every string.

    >>> properties = {"q": {"type": "string"}, "n": {"type": "integer"}}
    >>> schema = {"type": "object", "properties": properties, "required": ["q", "n"]}
    >>> example_arguments(ToolSpec("find", "Finds.", schema), "Bordeaux")
    {'q': 'Bordeaux', 'n': 1}
    """
    properties: Mapping[str, Any] = spec.parameters.get("properties", {})
    required: Sequence[str] = spec.parameters.get("required", ())
    return {name: _example(properties.get(name, {}), word) for name in required}


def _example(schema: Mapping[str, Any], word: str) -> Any:
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "string")
    kind = kind if isinstance(kind, str) else next(iter(kind))
    simple: dict[str, Any] = {"integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}, "null": None}
    return simple.get(kind, word)


def hostile_texts(rng: np.random.Generator) -> list[str]:
    """Returns texts that a model might write and a tool must survive."""
    noise = "".join(chr(int(code)) for code in rng.integers(32, 0x2FFF, size=40))
    return ["", "   ", _JUNK, "(" * 200, "\"'; -- \\ %s {0} */", "🙂" * 50, "\ud800", "a" * 20_000, noise]
