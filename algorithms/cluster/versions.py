"""Which versions are installed, and whether all machines of a run have the same: they exchange pickled trees and plans."""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from arpo_envs import ConfigError

MISSING = "not installed"
CODE = "code of arpo-envs"
"""What stands for this project's own files, as a checkout that was edited keeps its version."""
PACKAGES = ("arpo-envs", "gymnasium", "numpy", "ray", "torch", "transformers", "tokenizers", "vllm")
_MAY_LACK = frozenset({"vllm"})
"""Packages that only some machines need."""
_OWN = ("algorithms", "arpo_envs", "wrappers")


def versions_here() -> dict[str, str]:
    """Returns the versions of Python, of this project's code and of the packages that runs depend on, by name.

    >>> sorted(versions_here())[:3]
    ['Python', 'arpo-envs', 'code of arpo-envs']
    """
    return {"Python": platform.python_version(), CODE: digest(Path(__file__).parents[2])} | {
        name: _version(name) for name in PACKAGES
    }


def differences(found: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, list[str]]]:
    """Returns what is not the same everywhere: by package and version, the places that have it.

    Two builds of one version, such as 2.13.0+cpu and 2.13.0+cu128, count as the same. A place without vLLM agrees with all.

    Args:
        found: the versions of each place, as `versions_here` returns them there.

    >>> differences({"a": {"torch": "2.13.0+cpu"}, "b": {"torch": "2.13.0+cu128"}, "c": {"torch": "2.12.1"}})
    {'torch': {'2.13.0': ['a', 'b'], '2.12.1': ['c']}}
    """
    differing = {}
    for name in dict.fromkeys(name for own in found.values() for name in own):
        places: dict[str, list[str]] = {}
        for place, own in found.items():
            here = own.get(name, MISSING).partition("+")[0]
            if here != MISSING or name not in _MAY_LACK:
                places.setdefault(here, []).append(place)
        if len(places) > 1:
            differing[name] = places
    return differing


def in_lines(found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Returns a line for each package whose version is not the same everywhere.

    Args:
        found: see `differences`.

    >>> in_lines({"a": {"ray": "2.60.0"}, "b": {"ray": "2.60.0"}, "c": {"ray": "2.59.1"}})
    ['ray is 2.60.0 on a and b, and 2.59.1 on c']
    """
    lines = []
    for name, places in differences(found).items():
        listed = ", and ".join(f"{number} on {in_words(names)}" for number, names in places.items())
        lines.append(f"{name} is {listed}")
    return lines


def require_same_versions(found: Mapping[str, Mapping[str, str]]) -> None:
    """Refuses machines that differ.

    Args:
        found: see `differences`.

    Raises:
        ConfigError: they differ; the message says in what, and where.
    """
    if lines := in_lines(found):
        raise ConfigError(
            f"Versions differ between the machines of this cluster: {'; '.join(lines)}. Trees and weights go from one to the "
            "other, so install the same everywhere, or leave the others out of the cluster."
        )


def in_words(places: Sequence[str], shown: int = 4) -> str:
    """Returns the names of some places; of many only the first ones.

    >>> in_words(["a"]), in_words(["a", "b", "c"]), in_words(list("abcdef"), 2)
    ('a', 'a, b and c', 'a, b and 4 more')
    """
    if len(places) > shown:
        return f"{', '.join(places[:shown])} and {len(places) - shown} more"
    return " and ".join(filter(None, (", ".join(places[:-1]), places[-1])))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return MISSING


def digest(above: Path) -> str:
    """Returns a few digits that change with any of this project's files.

    Args:
        above: the folder in which its packages lie.
    """
    found = hashlib.blake2b(digest_size=4)
    for path in sorted(path for name in _OWN for path in (above / name).rglob("*.py")):
        found.update(f"{path.relative_to(above).as_posix()}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()
