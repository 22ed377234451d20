"""Where a command writes: found to be unusable before the long work, not after it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from arpo_envs import ConfigError


def require_folder(folder: Path, option: str = "--output") -> None:
    """Checks that a folder can be written, by trying; leaves nothing behind.

    Args:
        folder: it need not exist, nor those above it.
        option: that it was given with.

    Raises:
        ConfigError: it is not a folder, it cannot be made, or nothing can be written into it.

    >>> require_folder(Path("/dev/null/run"))
    Traceback (most recent call last):
    ...
    arpo_envs.errors.ConfigError: --output '/dev/null/run' cannot be written: /dev/null is not a folder. Give another --output.
    """
    with _told(folder, folder, option), _made(folder), tempfile.TemporaryFile(dir=folder):
        pass


def require_file(file: Path | None, option: str) -> None:
    """Checks that a file can be written whole, as `durable.write_text` does, by trying; leaves nothing behind.

    Args:
        file: neither it nor its folder need exist; None for an option that was not given.
        option: that it was given with.

    Raises:
        ConfigError: it is a folder, or nothing can be written where it belongs.
    """
    if file is None:
        return
    with _told(file, file.parent, option), _made(file.parent):
        if file.exists() and not file.is_file():
            raise ValueError("it is there, and is not a file")
        if file.exists() and not os.access(file, os.W_OK):
            raise ValueError("it is read-only")
        temporary = file.with_name(f".{file.name}.tmp")
        with suppress(FileExistsError):
            temporary.open("x").close()
            temporary.unlink()


@contextmanager
def _told(path: Path, folder: Path, option: str) -> Iterator[None]:
    """Says why a path cannot be written into a folder, and what to do."""
    try:
        yield
    except (OSError, ValueError) as error:  # a ValueError also for a path with a NUL in it
        blocking = [one for one in (folder, *folder.parents) if os.path.lexists(one) and not os.path.isdir(one)]
        why = f"{blocking[0]} is not a folder" if blocking else getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{option} {str(path)!r} cannot be written: {why}. Give another {option}.") from error


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Makes a folder for as long as the context lasts, with those above it that are missing."""
    made: list[Path] = []
    try:
        for one in (*reversed(folder.parents), folder):
            if not os.path.lexists(one):
                one.mkdir()
                made.append(one)
        yield
    finally:
        for one in reversed(made):
            with suppress(OSError):  # another command has begun to write into it
                one.rmdir()
