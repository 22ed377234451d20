"""NAME=VALUE words of a command line."""

import ast
from collections.abc import Sequence
from typing import Any

from arpo_envs import ConfigError


def parse_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Returns NAME=VALUE words as a dictionary; a value is a Python literal where it looks like one.

    Raises:
        ConfigError: a word has no "=".

    >>> parse_arguments(["hops=2", "split=test", "relations=['capital']"])
    {'hops': 2, 'split': 'test', 'relations': ['capital']}
    """
    parsed: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"Expected NAME=VALUE, got {word!r}.")
        try:
            parsed[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parsed[name] = value
    return parsed
