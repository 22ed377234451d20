"""Reads our own docstrings, so that what a class documents is what `arpo envs` shows."""

import inspect
import re


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
    """Returns what a docstring says behind "Source:", in one line; "" if it says nothing.

    >>> source_note('''Does something.
    ...
    ... Source: a paper,
    ... Eq. 1.
    ... ''')
    'a paper, Eq. 1.'
    """
    found = re.search(r"^Source: (.*?)(?:\n\n|\Z)", inspect.cleandoc(text or ""), re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found is not None else ""
