"""What a recipe may be asked for: its keyword arguments, checked before it runs."""

import inspect
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from arpo_envs import ConfigError
from arpo_envs.errors import unknown_name

Recipe = Callable[..., Any]


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
    """Returns the options of a recipe, lists as tuples where it takes those.

    Args:
        name: of the recipe, for messages.
        recipe: a function with annotated keyword arguments.
        options: what was asked for.
        given: arguments that it gets from elsewhere.

    Raises:
        ConfigError: the recipe has no such option, takes other values for it, or cannot do without another.

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
            raise ConfigError(f"{name} does nothing with {option!r}. {unknown_name('option', option, known.keys() - {*given})}")
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
    """Whether an annotation allows a value; one that is not understood allows everything."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin in (Union, types.UnionType):
        return any(accepts(part, value) for part in parts)
    if origin is tuple and parts[1:] == (...,):
        return isinstance(value, tuple) and all(accepts(parts[0], item) for item in value)
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(accepts, parts, value))
    if kind is Any:
        return True
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (None, types.NoneType):
        return value is None
    return isinstance(value, kind) if isinstance(kind, type) and kind is not inspect.Parameter.empty else True


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
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", types.NoneType: "None"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))
