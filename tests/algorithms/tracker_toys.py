"""Trackers that fail, hang, end their process or are slow; they work in processes of their own and write what they did."""

import atexit
import os
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from algorithms.tracking import TrackerWarning


class Planted:
    """A tracker that writes its calls into a file, and does something in one of its methods.

    Args:
        file: gets a line per call.
        where: the method.
        what: it does there.
    """

    def __init__(self, file: Path, where: str = "", what: str = "") -> None:
        self._file, self._where, self._what = file, where, what
        if where == "exit":
            atexit.register(self._do, "exit")
        self._do("init")

    def _do(self, name: str, value: object = "") -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{name} {value}".strip() + "\n")
        if name == self._where:
            DOES[self._what]()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._do("log", step)

    def summary(self, values: Mapping[str, Any]) -> None:
        self._do("summary", sorted(values))

    def table(self, name: str, rows: Any) -> None:
        self._do("table", name)

    def file(self, path: Path) -> None:
        self._do("file", path.name)

    def close(self) -> None:
        self._do("close")


def fail() -> None:
    raise OSError("no network")


def ask() -> None:
    input("a key, please: ")


def leave() -> None:
    raise SystemExit(1)


def hang() -> None:
    time.sleep(600)


def die() -> None:
    os._exit(7)


def dawdle() -> None:
    time.sleep(0.05)


def chatter() -> None:
    sys.stdout.write("a library prints\n")
    sys.stdout.write(f"and asks: {sys.stdin.read()}\n")
    sys.stdout.flush()
    warnings.warn("somebody else's", DeprecationWarning, stacklevel=1)
    warnings.warn("kept offline", TrackerWarning, stacklevel=1)


DOES = {"fail": fail, "ask": ask, "leave": leave, "hang": hang, "die": die, "dawdle": dawdle, "chatter": chatter}


def planted(file: Path, where: str, what: str, *_given: Any, **_options: Any) -> Planted:
    """Returns one, whatever a real tracker would be given."""
    return Planted(file, where, what)
