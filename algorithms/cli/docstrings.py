"""Reads docstrings: what a class documents is what `arpo envs` and `--help` show."""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Options = TypeVar("Options", bound=type)


def first_sentence(text: str | None) -> str:
    """Returns the first sentence of a docstring, without its full stop; "" if there is none.

    >>> first_sentence("Answers questions, e.g. these. Then stops.")
    'Answers questions, e.g. these'
    """
    paragraph = " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())
    found = re.match(r"(.*?[^.])\.(?=\s+[A-Z]|$)", paragraph)
    return found[1] if found is not None else paragraph


def argument_docs(text: str | None) -> dict[str, str]:
    """Returns what the section "Args:" says about each argument, continued lines joined.

    >>> argument_docs(argument_docs.__doc__)
    {'text': 'a docstring in Google style; None for a class that has none, or for one without arguments.'}

    Args:
        text: a docstring in Google style; None for a class that has none,
            or for one without arguments.
    """
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n(?=[ \t]))*)", inspect.cleandoc(text or ""), re.MULTILINE)
    found: dict[str, str] = {}
    name = ""
    for line in (section[1] if section is not None else "").splitlines():
        start = re.match(r" {4}(\w+): (.*)", line)
        if start is not None:
            name = start[1]
            found[name] = start[2].strip()
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


def source_note(text: str | None) -> str:
    """Returns what a docstring says after "Source:", in one line; "" if it names none.

    >>> source_note('''Does something.
    ...
    ... Source: a paper,
    ... Eq. 1.
    ... ''')
    'a paper, Eq. 1.'
    """
    found = re.search(r"^Source: (.*?)(?:\n\n|\Z)", inspect.cleandoc(text or ""), re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found is not None else ""


def with_help(options: Options) -> Options:
    """Gives the options of a command their help; see `shown`.

    Args:
        options: a dataclass whose fields have docstrings.
    """
    hints, usual = get_type_hints(options, include_extras=True), {one.name: one.default for one in dataclasses.fields(options)}
    for name, text in documented(options).items():
        options.__annotations__[name] = shown(hints[name], text, usual[name])
    return options


@cache  # the whole file of the class is parsed
def documented(record: type) -> Mapping[str, str]:
    """Returns what the docstring of each field of a dataclass says, as one paragraph."""
    import docstring_parser

    found = docstring_parser.parse_from_object(record).params
    return MappingProxyType({one.arg_name: " ".join((one.description or "").split()) for one in found})


def shown(hint: Any, text: str, default: object, usual: str | None = None) -> Any:
    """Returns the type of an option with its help as one paragraph; tyro would keep the line breaks of the docstring.

    Args:
        hint: the type.
        text: the help. If it contains "(default: …)", that is shown instead of the default value.
        default: the default value.
        usual: a "(default: …)" to show if the text contains none.
    """
    import tyro

    text, said = _split_default(text)
    said = usual or said or ("(default: none)" if default in (None, ()) else None)
    return Annotated[hint, tyro.conf.arg(help=text, help_behavior_hint=said, metavar=_metavar(hint))]


def _metavar(hint: Any) -> str | None:
    """Returns what stands for the value of an option that may be left out; None for tyro's own choice, where it has no "None".

    >>> _metavar(int | None), _metavar(Literal["on", "off"] | None), _metavar(int)
    ('INT', '{on,off}', None)
    """
    plain = [part for part in get_args(hint) if part is not type(None)]
    if type(None) not in get_args(hint) or len(plain) != 1:
        return None
    return (
        f"{{{','.join(map(str, get_args(plain[0])))}}}" if get_origin(plain[0]) is Literal else str(plain[0].__name__.upper())
    )


def _split_default(text: str) -> tuple[str, str | None]:
    """Returns a help text without its "(default: …)", and that part; None for the part if there is none.

    >>> _split_default("Threads (default: PyTorch's own choice). Numbers depend on them.")
    ('Threads. Numbers depend on them.', "(default: PyTorch's own choice)")
    """
    found = re.search(r"\s*(\(default: [^()]*\))", text)
    return (text, None) if found is None else (text[: found.start()] + text[found.end() :], found[1])
