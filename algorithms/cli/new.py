"""`arpo new env NAME`: writes a package with an environment that works, to be changed into one's own."""

import keyword
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.text import Text

from arpo_envs import ConfigError

from .outputs import require_folder

_SKELETON = resources.files(__package__) / "skeleton"
_PLACES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "init.py.txt": "PACKAGE/__init__.py",
    "tasks.py.txt": "PACKAGE/tasks.py",
    "tool.py.txt": "PACKAGE/tool.py",
    "env.py.txt": "PACKAGE/env.py",
    "test_env.py.txt": "tests/test_env.py",
}
"""Where each file of the skeleton goes."""


@dataclass(frozen=True)
class NewConfig:
    """Write a package with a working, tested environment, as the beginning of your own."""

    kind: Annotated[Literal["env"], tyro.conf.Positional]
    """What to write: an environment."""
    name: Annotated[str, tyro.conf.Positional]
    """Name of the project, for example price-lists."""
    folder: Path = Path()
    """Folder in which the project's folder is made."""


def main(arguments: Sequence[str]) -> int:
    """Runs `arpo new`."""
    config = tyro.cli(NewConfig, args=list(arguments), prog="arpo new")
    project = write(config.name, config.folder)
    names = _names(config.name)
    console = Console()
    console.print(Text.assemble("Wrote ", (str(project), "bold"), ":"))
    for place in _PLACES.values():
        console.print(Text(f"  {_filled(place, names)}"))
    console.print(Text(f"\nNext:\n  pip install -e {project}\n  arpo play {names['ENV_ID']} --seed 1\n  pytest {project}"))
    return 0


def write(name: str, folder: Path) -> Path:
    """Writes the project into a new folder, and returns that.

    Raises:
        ConfigError: the name does not do, or the folder exists already or cannot be written.
    """
    names = _names(name)
    project = folder / names["PROJECT"]
    require_folder(project, "--folder")
    if project.exists():
        raise ConfigError(f"{project} exists already. Choose another name or --folder.")
    try:
        for source, place in _PLACES.items():
            target = project / _filled(place, names)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_filled((_SKELETON / source).read_text(encoding="utf-8"), names), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot write {project}: {error.strerror or error}. Choose another --folder.") from error
    return project


def _names(name: str) -> dict[str, str]:
    """Returns what stands for each word of the skeleton."""
    package = re.sub(r"[-.\s]+", "_", name).strip("_").lower()
    if not package.isascii() or not package.isidentifier() or keyword.iskeyword(package):
        raise ConfigError(f"{name!r} cannot be the name of a Python package. Use letters, digits and hyphens, a letter first.")
    if package == "tests" or package in sys.stdlib_module_names or find_spec(package) is not None:
        raise ConfigError(f"A package named {package!r} exists already. Choose another name.")
    title = "".join(word.capitalize() for word in package.split("_"))
    return {"PROJECT": package.replace("_", "-"), "PACKAGE": package, "CLASS": title, "ENV_ID": f"{title}/Guess-v0"}


def _filled(text: str, names: dict[str, str]) -> str:
    return re.sub("|".join(names), lambda found: names[found[0]], text)
