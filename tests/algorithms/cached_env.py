"""An environment whose searches are answered from a cache that several processes share; importing it registers it.

Searches that are really made are written down beside the cache. With `ARPO_TESTS_MEET`, a process that makes its first one
waits there until another process does.
"""

import functools
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

from arpo_envs import Stateless, ToolResult
from arpo_envs.envs.search import SearchEnv
from arpo_envs.tools.cache import Cache, Store, answer_tools

ID = "Cached/Search-v0"


@functools.cache
def answers(file: str) -> Cache:
    """One for all environments of a process: it knows which calls are under way."""
    return Cache(Store(Path(file)))


@functools.cache
def meet(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 120
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)


class Written(Stateless):
    """A tool that takes its time, and whose calls are written down."""

    def __init__(self, tool: Any, file: Path) -> None:
        self.tool, self.file = tool, file
        self.specs, self.pure = tool.specs, tool.pure

    def call(self, name: str, arguments: Mapping[str, Any], *, timeout: float) -> ToolResult:
        if "ARPO_TESTS_MEET" in os.environ:
            meet(Path(os.environ["ARPO_TESTS_MEET"]))
        with open(self.file, "a", encoding="utf-8") as made:
            made.write(f"{os.getpid()} {arguments['query']!r}\n")
        time.sleep(0.005)
        result: ToolResult = self.tool.call(name, arguments, timeout=timeout)
        return result


class CachedSearch(SearchEnv):
    """The search environment; without `cache` as it is.

    Args:
        cache: the file.
        split: as in `SearchEnv`.
        arguments: more of those of `SearchEnv`.
    """

    def __init__(self, *, cache: str = "", split: str = "train", **arguments: Any) -> None:
        super().__init__(split=split, **arguments)
        if cache:
            self.tools: Any = tuple(Written(tool, Path(cache).with_suffix(".made")) for tool in self.tools)
            answer_tools(self, answers(cache))


if ID not in gym.registry:
    gym.register(ID, entry_point=CachedSearch)
