"""Which installed packages a session sees: an allow-list and its dependencies, not all of site-packages.

What generates a task's questions is often installed, and would reveal the answers.
"""

import contextlib
import email.parser  # noqa: F401  # metadata needs it, and it may be out of sight by then
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions

ALLOWED = ("numpy", "sympy", "scipy", "pandas")
"""Packages that a session may use if they are installed, besides those that the tool's `imports` name."""
PACKAGE_FOLDERS = ("site-packages", "dist-packages")
_REQUIRED = re.compile(r"\s*([A-Za-z0-9][\w.-]*)")
_MOST = 200


@dataclass(frozen=True)
class Readable:
    """What a session may read.

    Args:
        folders: those of the interpreter and the system, with all they contain except `hidden`.
        packages: files and folders of the packages that it sees; they may be in `hidden`.
        hidden: folders of installed packages.
    """

    folders: Sequence[str]
    packages: Sequence[str]
    hidden: Sequence[str]

    @property
    def paths(self) -> list[str]:
        """Everything visible once `hidden` is covered."""
        return [*self.folders, *self.packages]

    def without_hidden(self) -> tuple[list[str], list[str]]:
        """Returns what may be read if nothing can be covered, and the folders that were split up for that."""
        paths, apart, waiting = list(self.packages), list[str](), list(self.folders)
        while waiting:
            folder = waiting.pop()
            if any(hidden.startswith(f"{folder}/") for hidden in self.hidden):
                apart.append(folder)
                waiting += [f"{folder}/{name}" for name in sorted(os.listdir(folder))]
            elif folder not in self.hidden:
                paths.append(folder)
        return paths, apart

    def link_packages(self, folder: str) -> str | None:
        """Fills a folder with links to the packages, to be imported from there if `hidden` cannot be covered.

        In `hidden`, the names of other packages would be found, and importing them would fail in unexpected ways.

        Args:
            folder: an empty folder.

        Returns:
            The folder of installed packages that it stands for; None if there is none.
        """
        inside = [path for path in self.packages if os.path.dirname(path) in self.hidden]
        for path in inside:
            with contextlib.suppress(FileExistsError):
                os.symlink(path, f"{folder}/{os.path.basename(path)}")
        return os.path.dirname(inside[0]) if inside else None


def package_folders(folders: Iterable[str]) -> list[str]:
    """Returns the folders of installed packages in the folders of an interpreter or a system: in them, or one level below.

    Args:
        folders: such as /usr/lib and /usr/lib/python3.11.
    """
    found = set()
    for folder in folders:
        below = [f"{folder}/{name}" for name in os.listdir(folder) if name.startswith(("python", "pypy"))]
        found |= {
            f"{place}/{name}" for place in (folder, *below) for name in PACKAGE_FOLDERS if os.path.isdir(f"{place}/{name}")
        }
    return sorted(found)


def allowed_packages(imports: Iterable[str]) -> list[str]:
    """Returns the files and folders of the packages that a session sees, including those it depends on.

    Args:
        imports: modules that the tool imports beforehand.
    """
    names = dict.fromkeys(name.partition(".")[0] for name in (*imports, *ALLOWED)).keys() - sys.stdlib_module_names
    found: set[str] = set()
    waiting, seen = [dist for name in names for dist in _distributions(name, found)], set[str]()
    while waiting and len(seen) < _MOST:
        dist = waiting.pop()
        name = _canonical(dist.metadata["Name"])
        if name in seen:
            continue
        seen.add(name)
        found |= set(_entries(dist))
        waiting += [required for required in map(_installed, _requirements(dist)) if required is not None]
    return sorted(path for path in found if os.path.lexists(path))


def _distributions(module: str, found: set[str]) -> list[Distribution]:
    """Returns the distributions that provide a module; adds its location, which may be outside all of them, to `found`."""
    spec = importlib.util.find_spec(module) if module else None
    if spec is None:
        return []
    found |= set(spec.submodule_search_locations or ([spec.origin] if spec.origin else []))
    dist = _installed(module)
    return [dist] if dist is not None else [distribution(name) for name in packages_distributions().get(module, ())]


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _requirements(dist: Distribution) -> Iterator[str]:
    """Yields what a distribution requires without extras; what its markers exclude is not installed here either."""
    for line in dist.requires or ():
        requirement, _, marker = line.partition(";")
        name = _REQUIRED.match(requirement)
        if name and "extra" not in marker:
            yield name[1]


def _entries(dist: Distribution) -> Iterator[str]:
    """Yields the files and folders at the top of site-packages that belong to a distribution."""
    for top in {file.parts[0] for file in dist.files or () if file.parts[0] not in {"..", "__pycache__"}}:
        yield str(dist.locate_file(top))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
