"""Keeps credentials out of files: by the names they have, and by their values in the environment."""

import os
import re
from typing import Any

from ...errors import ConfigError

_NAMES = re.compile(r"(?:^|_|\b)(api_?key|key|token|secret|password|passwd|credentials?|authorization|cookie)(?:$|_|\b)", re.I)
_PART = r"(?:[A-Z]?[a-z]{1,20}\d{0,3}|\d{1,3})"
"""A word or a small number: what is random is seldom made of these alone."""
_HOST = rf"{_PART}(?:[.-]{_PART})*"
_STEPS = rf"(?:/\.?{_PART}(?:[._-]{_PART}){{0,2}}){{1,6}}/?"
_ABOUT = {
    re.compile(rf"_(?:{ending})s?$", re.I): re.compile(look)
    for ending, look in {
        "domain": rf"\.?{_HOST}\.[a-z]+",
        "ur[li]|endpoint": rf"[a-z]{{2,8}}://{_HOST}(?::\d+)?(?:{_STEPS}|/)?",
        "path|file|dir(?:ectory)?|folder": rf"(?:~|\.{{1,2}}|[A-Z]:)?{_STEPS}",
        "name|type|mode|algorithm|format": r"[A-Z]?[a-z]{1,15}",
        "port|ttl|timeout|lifetime|age|size|length|limit|count": r"\d{1,12}",
    }.items()
}
"""The ends of names that say where a credential is, or what kind it is, each with how such a value looks.

COOKIE_DOMAIN=wikipedia.org holds none; but an address may hold one, in its path as well, and then it looks otherwise.
"""
_ADDRESS = re.compile(r"://[^/?#\s]*@|[?&](?:api_?)?(?:key|token|secret|password)=", re.I)
"""What an address has that holds a credential itself."""
_SHORTEST = 8
"""Characters from which on a value counts: a shorter one may be an ordinary word."""
MARK = "[credential]"


def require_none(values: Any, where: str) -> None:
    """Refuses values that are named like a credential, and addresses with a password in them.

    Args:
        values: JSON.
        where: what they belong to, for the message.

    Raises:
        ConfigError: there is one.

    >>> require_none({"endpoint": "https://search.example/v1", "api_key": "abc"}, "The tool search")
    Traceback (most recent call last):
    arpo_envs.errors.ConfigError: The tool search depends on 'api_key', which names a credential: leave it out of `pure`.
    """
    if isinstance(values, dict):
        for name, value in values.items():
            if _NAMES.search(name):
                raise ConfigError(f"{where} depends on {name!r}, which names a credential: leave it out of `pure`.")
            require_none(value, where)
    elif isinstance(values, list | tuple):
        for value in values:
            require_none(value, where)
    elif isinstance(values, str) and _ADDRESS.search(values):
        raise ConfigError(f"{where} depends on an address with a credential in it: leave that part out of `pure`.")


def without_credentials(value: Any) -> Any:
    """Returns JSON or bytes in which the values of environment variables that are named like credentials are marked."""
    held = {value for name, value in os.environ.items() if len(value) >= _SHORTEST and _is_credential(name, value)}
    return _without(value, sorted(held, key=len, reverse=True))  # the longest first: it may contain another


def _is_credential(name: str, value: str) -> bool:
    is_about = any(ending.search(name) and look.fullmatch(value) for ending, look in _ABOUT.items())
    return bool(_NAMES.search(name)) and not is_about


def _without(value: Any, held: list[str]) -> Any:
    if isinstance(value, str):
        for credential in held:
            value = value.replace(credential, MARK)
    elif isinstance(value, bytes):
        for credential in held:
            value = value.replace(os.fsencode(credential), MARK.encode())
    elif isinstance(value, dict):
        return {_without(name, held): _without(inner, held) for name, inner in value.items()}
    elif isinstance(value, list | tuple):
        return [_without(inner, held) for inner in value]
    return value
