"""The options of a part: keyword arguments of the function that makes it, checked before it runs."""

import inspect
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from arpo_envs import ConfigError, members
from arpo_envs.errors import known_names

Recipe = Callable[..., Any]

REQUIRE: members.Member[Callable[..., None] | None] = members.Member("require", None, method=True)
"""Checks, before any long work begins, that what a maker of policies or models makes can work."""


@dataclass(frozen=True)
class Finished:
    """A recipe without options.

    Args:
        made: what it returns.
    """

    made: Any

    def __call__(self) -> Any:
        """Returns it."""
        return self.made


def checked(name: str, recipe: Recipe, options: Mapping[str, Any], given: Collection[str] = ()) -> dict[str, Any]:
    """Returns the options of a recipe, with lists turned into tuples.

    Args:
        name: of the recipe, for messages.
        recipe: a function with annotated keyword arguments.
        options: what was asked for.
        given: arguments that it gets from elsewhere.

    Raises:
        ConfigError: the recipe has no such option, does not accept its value, or lacks a required one.

    >>> def recipe(*, at: tuple[int, ...] = (1,), level: Literal["a", "b"] = "a"): ...
    >>> checked("mine", recipe, {"at": [1, 2]})
    {'at': (1, 2)}
    >>> checked("mine", recipe, {"level": "c"})
    Traceback (most recent call last):
    arpo_envs.errors.ConfigError: mine takes level = 'a' or 'b', got 'c'.
    """
    known = inspect.signature(recipe).parameters
    if needed := [option for option in known if option not in (*options, *given) and required(known[option])]:
        raise ConfigError(f"{name} needs a value for {', '.join(needed)}.")
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return dict(options)
    taken = {}
    for option, value in options.items():
        if option not in known or option in given:
            raise ConfigError(f"{name} does not take {option!r}. {known_names(option, known.keys() - {*given})}")
        kind = known[option].annotation
        value = tuple(value) if isinstance(value, list) else value
        if not accepts(kind, value):
            raise ConfigError(f"{name} takes {option} = {described(kind)}, got {value!r}.")
        taken[option] = value
    return taken


def required(parameter: inspect.Parameter) -> bool:
    """Whether a function cannot be called without this argument."""
    various = (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in various


def accepts(kind: Any, value: object) -> bool:
    """Whether an annotation allows a value, without converting it; one that is not understood allows everything.

    >>> accepts(float, 1), accepts(int, True), accepts(tuple[int, ...], (1, 2.5)), accepts(Literal["a"] | None, None)
    (True, False, False, True)
    """
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError  # slow to import
    from pydantic_core import SchemaError

    if kind is inspect.Parameter.empty or isinstance(kind, str):
        return True
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind, config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    except PydanticUserError:  # a class that pydantic would look into, or something that is not a type
        return isinstance(value, kind) if isinstance(kind, type) else True
    except SchemaError:  # a class that has no instances, such as a protocol
        return True
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def described(kind: Any) -> str:
    """Returns an annotation in words.

    >>> described(Literal["soft", "hard"]), described(float | None), described(tuple[int, ...]), described(tuple[int, int])
    ("'soft' or 'hard'", 'a number or None', 'whole numbers, e.g. (1, 2)', '(a whole number, a whole number)')
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(repr(part) for part in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(described(part) for part in parts)
    if origin is tuple and parts == (int, ...):
        return "whole numbers, e.g. (1, 2)"
    if origin is tuple:
        return f"({', '.join(map(described, parts))})"
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "a string", types.NoneType: "None"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))
