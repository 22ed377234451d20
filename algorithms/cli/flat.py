"""Nested dataclasses as one flat list of options: what a command line offers, and what older runs have written.

An option has the name of its field, however deeply that is nested, so no two fields may have the same name. Nothing is
declared twice: its type and its help are those of the field.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, make_dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from .docstrings import documented, shown
from .groups import Group

Record = TypeVar("Record")
Written = Mapping[type, tuple[type, Callable[[Any], Any]]]
"""Records that are a single option: the type of what is written for one, and a function that turns this into the record."""


@dataclass(frozen=True)
class Option:
    """One option, and where its value lies in the record.

    Args:
        path: the fields that lead to it.
        owner: the class that declares it.
        hint: type of what is written for it.
        read: turns what was written into its value.
        default: what counts as written if it is left out; None for nothing.
        usual: a "(default: …)" that the help should show instead of the default.
    """

    path: tuple[str, ...]
    owner: type
    hint: Any
    read: Callable[[Any], Any]
    default: Any = None
    usual: str | None = None

    def value(self, record: object) -> Any:
        """Returns its value in a record."""
        return reduce(getattr, self.path, record)

    def has(self, record: object, written: Any) -> bool:
        """Whether what was written for it is its value in a record."""
        return bool(self.value(record) == (None if written is None else self.read(written)))


def options_of(record: type, unlisted: Collection[str], written: Written, path: tuple[str, ...] = ()) -> dict[str, Option]:
    """Returns the options of a record and of the records in it, by name.

    Args:
        record: a dataclass.
        unlisted: paths, joined by dots, of fields that are not options.
        written: records that are a single option.
        path: the fields that lead to the record.
    """
    hints, found = get_type_hints(record), dict[str, Option]()
    for one in fields(record):
        here, hint = (*path, one.name), hints[one.name]
        inner = _record_in(hint)
        if ".".join(here) in unlisted:
            continue
        if inner is None:
            more = {one.name: Option(here, record, hint, partial(read, hint))}
        elif inner in written:
            kind, make = written[inner]
            more = {one.name: Option(here, record, kind | None, make)}
        else:
            more = options_of(inner, unlisted, written, here)
        assert not found.keys() & more.keys(), f"{found.keys() & more.keys()} would mean two things"
        found |= more
    return found


def parsed(
    words: Sequence[str], options: Mapping[str, Option], groups: Sequence[Group], *, prog: str, description: str
) -> dict[str, Any]:
    """Returns the value of each option, by name: what a command line says, or else the option's default.

    Args:
        words: of the command line.
        options: by name; each of them is in one group.
        groups: the headings under which the help lists the options.
        prog: the command, for the help.
        description: what it does, for the help.
    """
    import tyro

    boxes = []
    for group in groups:
        box = make_dataclass("Box", [_column(name, options[name]) for name in group.options], frozen=True)
        heading = tyro.conf.arg(name=group.name, help=group.about)
        boxes.append((group.name.replace(" ", "_"), Annotated[box, heading], box()))
    kind, flat = make_dataclass("Options", boxes), (tyro.conf.OmitArgPrefixes,)
    found: object = tyro.cli(kind, args=list(words), prog=prog, description=description, config=flat)
    return {name: value for box in vars(found).values() for name, value in vars(box).items()}


def _column(name: str, option: Option) -> tuple[str, Any, Any]:
    """Returns an option as a field of a dataclass, with its help."""
    hint = option.hint if option.usual is None else option.hint | None
    text = documented(option.owner)[option.path[-1]]
    return name, shown(hint, text, option.default, option.usual), option.default


def is_given(words: Sequence[str], name: str) -> bool:
    """Whether a command line gives an option, be it with its default.

    >>> words = ["--env-args", "hops=1", "--no-dry_run", "--steps=3"]
    >>> [is_given(words, name) for name in ("env_args", "dry_run", "steps", "env")]
    [True, True, True, False]
    """
    option = name.replace("_", "-")
    return any(word.partition("=")[0].replace("_", "-") in (f"--{option}", f"--no-{option}") for word in words)


def nested(options: Mapping[str, Option], written: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what was written for options, nested as in the record: values by field, a mapping for each inner record."""
    found: dict[str, Any] = {}
    for name, value in written.items():
        *above, last = options[name].path
        reduce(lambda inside, step: inside.setdefault(step, {}), above, found)[last] = options[name].read(value)
    return found


def changed(record: Record, values: Mapping[str, Any]) -> Record:
    """Returns a record with some of its values replaced by others, which are nested as `nested` returns them."""
    new = {name: changed(getattr(record, name), one) if isinstance(one, dict) else one for name, one in values.items()}
    return replace(record, **new)  # type: ignore[type-var]


def read(hint: Any, value: Any) -> Any:
    """Returns a value from JSON as the type it was written from: a record, a tuple or a path.

    >>> read(tuple[str, ...], ["a"]), read(Path | None, "a/b"), read(str, "a/b")
    (('a',), PosixPath('a/b'), 'a/b')
    """
    record = _record_in(hint)
    if record is not None and isinstance(value, dict):
        hints = get_type_hints(record)
        return record(**{name: read(hints[name], one) for name, one in value.items()})
    if isinstance(value, list):
        return tuple(value)
    return Path(value) if isinstance(value, str) and Path in (hint, *get_args(hint)) else value


def unknown(record: type, values: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yields the paths of values from JSON for which a record has no field."""
    inside = {one.name: _record_in(get_type_hints(record)[one.name]) for one in fields(record)}
    for name, value in values.items():
        inner = inside.get(name)
        if name not in inside:
            yield above + name
        elif inner is not None and isinstance(value, dict):
            yield from unknown(inner, value, f"{above}{name}.")


def _record_in(hint: Any) -> type | None:
    """Returns the dataclass that a field holds, if it holds one; it may also hold None."""
    return next((kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind)), None)
