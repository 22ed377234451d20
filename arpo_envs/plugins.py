"""Parts by name: built in, offered by an installed package as an entry point, or written `package.module:object`.

A package offers a part in its `pyproject.toml`, under the group of its kind (`arpo.algorithms`, `arpo.policies`,
`arpo.tools`, `arpo.envs`). Nothing of it is imported before it is asked for by name.
"""

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

from .errors import ConfigError, unknown_name


@dataclass(frozen=True)
class Plugin:
    """A part that an installed package offers.

    Args:
        name: what it is asked for by.
        reference: where it is, `package.module:object`.
        package: who offers it, name and version.
    """

    name: str
    reference: str
    package: str


@dataclass(frozen=True)
class Registry:
    """All parts of one kind that can be asked for by name.

    What is built in keeps its name, whoever else claims it: installing a package never changes what a name means. A name
    that two packages offer is refused. Both can still be had by reference.

    Args:
        kind: what the parts are, for messages.
        group: the group of the entry points.
        built_in: name -> `package.module:object`.

    >>> registry = Registry("shape", "example.shapes", {"fraction": "fractions:Fraction"})
    >>> registry.find("fraction") is registry.find("fractions:Fraction")
    True
    >>> registry.find("fractoin")
    Traceback (most recent call last):
    arpo_envs.errors.ConfigError: Unknown shape 'fractoin'. Known: fraction. Did you mean 'fraction'?
    """

    kind: str
    group: str
    built_in: Mapping[str, str]

    def plugins(self) -> list[Plugin]:
        """Returns what installed packages offer, by name, without importing any of it."""
        return list(_offered(self.group, tuple((path, _changed(path)) for path in sys.path)))

    def names(self) -> list[str]:
        """Returns every name that `find` knows."""
        return sorted({*self.built_in, *(plugin.name for plugin in self.plugins())})

    def knows(self, name: str) -> bool:
        """Whether a name is among `names`; for one that is built in, nothing that is installed is looked through."""
        return name in self.built_in or any(plugin.name == name for plugin in self.plugins())

    def find(self, name: str) -> Any:
        """Returns the part behind a name or a reference `package.module:object`.

        Raises:
            ConfigError: there is no such part, two packages offer it, or it cannot be imported.
        """
        if name in self.built_in:
            module, _, attribute = self.built_in[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        if ":" in name:
            return imported(name, f"The {self.kind} {name}")
        plugins = self.plugins()
        offered = [plugin for plugin in plugins if plugin.name == name]
        if not offered:
            raise unknown_name(self.kind, name, {*self.built_in, *(plugin.name for plugin in plugins)})
        if len(offered) > 1:
            listed = " and ".join(f"{plugin.package} ({plugin.reference})" for plugin in offered)
            raise ConfigError(f"The {self.kind} {name!r} is offered by {listed}. Say which one: {offered[0].reference}, …")
        return self.load(offered[0])

    def load(self, plugin: Plugin) -> Any:
        """Returns the part that a package offers.

        Raises:
            ConfigError: it cannot be imported.
        """
        return imported(plugin.reference, f"The {self.kind} {plugin.name!r} of {plugin.package} ({plugin.reference})")


@lru_cache(maxsize=32)
def _offered(group: str, folders: tuple[tuple[str, int], ...]) -> tuple[Plugin, ...]:
    """Looks through all that is installed, once for as long as the folders are the same: a command asks a dozen times."""
    from importlib.metadata import entry_points  # it is slow to import, and rarely needed

    found = {
        Plugin(one.name, one.value.partition("[")[0].strip(), f"{one.dist.name} {one.dist.version}" if one.dist else "?")
        for one in entry_points(group=group)
    }
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.package, plugin.reference)))


def _changed(folder: str) -> int:
    """Returns when something was last put into a folder that is searched for modules, ns; 0 if it is not there."""
    try:
        return os.stat(folder or ".").st_mtime_ns
    except OSError:
        return 0


def is_reference(name: str) -> bool:
    """Whether a name is written `package.module:object`.

    >>> is_reference("pack.mod:thing"), is_reference("http://host"), is_reference("host:8000"), is_reference("arpo")
    (True, False, False, False)
    """
    module, colon, attribute = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))


def imported(reference: str, what: str) -> Any:
    """Returns the object behind `package.module:object`.

    Args:
        reference: the module is imported now.
        what: how messages name it.

    Raises:
        ConfigError: it is not a reference, the module cannot be imported, or has no such object.
    """
    if not is_reference(reference):
        raise ConfigError(f"{what} is not written package.module:object.")
    module, _, attribute = reference.partition(":")
    found: Any = imported_module(module, what)
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [name for name in vars(found) if not name.startswith("_")] if hasattr(found, "__dict__") else []
            raise ConfigError(f"{what} does not exist. {unknown_name(f'name in {module}', part, known)}")
        found = getattr(found, part)
    return found


def imported_module(module: str, what: str) -> ModuleType:
    """Returns a module.

    Args:
        module: its name; it is imported now.
        what: how messages name what is looked for there.

    Raises:
        ConfigError: it cannot be imported.
    """
    if not all(part.isidentifier() for part in module.split(".")):
        raise ConfigError(f"{what} cannot be imported: {module!r} is not a valid module name.")
    try:
        return importlib.import_module(module)
    except Exception as error:  # someone else's module may fail in any way; the user must be told whose it was
        raise ConfigError(f"{what} cannot be imported: {type(error).__name__}: {error}. {_advice(module, error)}") from error


def _advice(module: str, error: Exception) -> str:
    missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    if missing is not None and (module == missing or module.startswith(f"{missing}.")):
        return "Install the package it is in; a module in a folder is found through PYTHONPATH, e.g. PYTHONPATH=. arpo …"
    if missing is not None:
        return f"It needs {missing}: install that."
    return "The module itself raised this when it was imported."
