"""Every exception of the suite, and helpers: the closest name for an unknown one, and arguments without effect."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class ArpoError(Exception):
    """Base of all errors raised by this suite for a user's (never a model's) mistake."""


class ConfigError(ArpoError, ValueError):
    """An argument is unknown, has no effect, or contradicts another; the message says what to write instead."""


class ForkError(ArpoError):
    """Base of everything that can go wrong with snapshot, restore and clone."""


class NotForkable(ForkError):
    """The environment, one of its wrappers or one of its tools cannot be copied."""


class NotRepeatable(NotForkable):
    """An environment that is rebuilt from its seed and actions did not do again what it did the first time."""


class SnapshotMismatch(ForkError):
    """A snapshot belongs to another environment, or can no longer be used."""


class CloneError(ForkError):
    """One child of a fork could not be made; `clone_many` returns it as a value among its siblings."""


class ToolFault(ArpoError):
    """A tool itself failed (a lost sandbox, a broken index): not the model's doing."""


class ToolLost(ToolFault):
    """What a tool works with has died, hangs or cannot be reached: the same episode may succeed when it is tried again."""


class NotRecorded(ToolFault):
    """A run is replayed, and its recording has no answer to a call; the call was not made."""


class RowError(ArpoError, RuntimeError):
    """Rows of a vector environment failed.

    Args:
        row: the first of them.
        errors: what was raised, by row.
        steps: what the other rows of the same call returned, by row; those have gone on.
    """

    def __init__(self, row: int, errors: Mapping[int, Exception], steps: Mapping[int, Any]) -> None:
        self.row, self.errors, self.steps = row, errors, steps
        others = ", ".join(str(other) for other in sorted(errors) if other != row)
        also = f" (and row {others})" if others else ""
        super().__init__(f"Row {row}{also} failed with {type(errors[row]).__name__}: {errors[row]}")

    def __reduce__(self) -> tuple[type["RowError"], tuple[Any, ...]]:
        """Pickles with its rows: an exception's default is to be made again from its message."""
        return type(self), (self.row, self.errors, self.steps)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """Returns the error for an unknown name: what exists, and the closest match.

    >>> unknown_name("dialect", "tag", ["json", "tags"])
    ConfigError("Unknown dialect 'tag'. Known: json, tags. Did you mean 'tags'?")
    """
    return ConfigError(f"Unknown {kind} {name!r}. {known_names(name, known)}")


def known_names(name: str, known: Iterable[str]) -> str:
    """Returns a sentence that lists what exists, and one with the closest match for a name, if there is one.

    >>> known_names("tag", ["json", "tags"])
    "Known: json, tags. Did you mean 'tags'?"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"Known: {', '.join(names) if names else 'none'}.{hint}"


def require_effect(arguments: Mapping[str, object], place: str, reason: str) -> None:
    """Refuses arguments that would be ignored.

    Args:
        arguments: by name; None means not given.
        place: where they have no effect, such as "with corpus=".
        reason: why they have none.

    Raises:
        ConfigError: one was given.

    >>> require_effect({"world": "real", "hops": None}, "with corpus=", "it chooses the documents")
    Traceback (most recent call last):
    arpo_envs.errors.ConfigError: world would have no effect with corpus=: it chooses the documents. Leave one of them out.
    """
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ConfigError(f"{', '.join(given)} would have no effect {place}: {reason}. Leave one of them out.")
