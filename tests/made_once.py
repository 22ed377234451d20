"""Folders that one of pytest's processes makes for all of them."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Returns a folder that nobody may change, since other processes read it.

    Args:
        factory: where processes have their folders side by side.
        name: of the folder.
        make: fills a path that does not exist; only called by the first who asks.
    """
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    return kept_once(folder, make)


def kept_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Returns a folder that stays where it is, for later runs as well.

    Args:
        folder: where it belongs.
        make: fills a path that may hold what an earlier attempt left; only called by the first who asks.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f"{folder.name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder.parent / f"{folder.name}.done"
        if not done.exists():
            make(folder)
            done.touch()
    return folder
