"""Every exception of the suite, and the one helper that suggests the closest name."""

import difflib
from collections.abc import Iterable


class ArpoError(Exception):
    """Base of all errors raised by this suite for a user's (never a model's) mistake."""


class ConfigError(ArpoError, ValueError):
    """An argument is unknown, inert or contradicts another; the message says what to write instead."""


class ForkError(ArpoError):
    """Base of everything that can go wrong with snapshot, restore and clone."""


class NotForkable(ForkError):
    """The environment, one of its wrappers or one of its tools cannot be copied."""


class SnapshotMismatch(ForkError):
    """A snapshot was offered to an environment it does not belong to, or is no longer usable."""


class CloneError(ForkError):
    """One child of a fork could not be made; `clone_many` returns it as a value beside its siblings."""


class ToolFault(ArpoError):
    """A tool itself failed (a lost sandbox, a broken index): not the model's doing."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """Returns the error for an unknown name: what exists, and the closest match.

    >>> unknown_name("dialect", "tag", ["json", "tags"])
    ConfigError("Unknown dialect 'tag'. Known: json, tags. Did you mean 'tags'?")
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(names) if names else "none"
    return ConfigError(f"Unknown {kind} {name!r}. Known: {listed}.{hint}")
