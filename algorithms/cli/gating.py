"""Which trees hold questions that must not be passed on: one rule for trackers, reports and the run's page."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arpo_envs.tasks.benchmarks import BENCHMARKS

from ..tree import RolloutTree

_ARGUMENTS = ("env_args", "train_args", "args")
_NAMES = ("benchmark", "data")
_FROM = ("tasks", "source")
_SAID = (*_FROM, "benchmark", "gated")
_TASKS = re.compile("(^|:)tasks$")


@dataclass
class Gate:
    """Keeps trees of gated benchmarks back, and counts them.

    A tree's own `meta` decides. Where it names no file, because an earlier version made it or because its question is from
    none, the configuration of its run is asked, too.

    Args:
        named: what a configuration names as the source of questions, each with the environment, or "" for all of them; None
            if there is no configuration.
        include_gated: whether they are let through.
    """

    named: tuple[tuple[str, str], ...] | None = None
    include_gated: bool = False
    kept: Counter[str] = field(default_factory=Counter)
    """How many trees were kept back, by the title of their benchmark."""
    unknown: int = 0
    """How many trees were let through although nothing says where their questions are from."""

    @classmethod
    def of(cls, config: Mapping[str, Any], *, include_gated: bool = False) -> "Gate":
        """Returns the gate of a run with this configuration."""
        words = [str(word).partition("=") for name in _ARGUMENTS for word in config.get(name) or ()]
        named = [(name.removesuffix("tasks").removesuffix(":"), value) for name, _, value in words if _TASKS.search(name)]
        named += [("", str(config[name])) for name in _NAMES if config.get(name)]
        return cls(tuple(named), include_gated)

    @classmethod
    def of_folder(cls, folder: Path, *, include_gated: bool = False) -> "Gate":
        """Returns the gate of a run's folder, which may have no configuration."""
        try:
            found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        return cls.of(found, include_gated=include_gated) if isinstance(found, dict) else cls(None, include_gated)

    def keeps_back(self, tree: RolloutTree) -> bool:
        """Returns whether a tree must not be passed on, and counts it.

        >>> gate = Gate.of({"train_args": ["tasks=data/gaia.jsonl"]})
        >>> gate.keeps_back(RolloutTree()), gate.keeps_back(RolloutTree(meta={"gated": False}))
        (True, False)
        """
        if self.include_gated:
            return False
        title = self._benchmark(tree)
        if title is not None:
            self.kept[title] += 1
        elif self.named is None and tree.meta.keys().isdisjoint(_SAID):
            self.unknown += 1
        return title is not None

    def left_out(self) -> str:
        """Returns in words what was kept back, "" if nothing was."""
        found = " and ".join(f"{in_words(count)} of {title}" for title, count in sorted(self.kept.items()))
        return f"Left out: {found}, which must not be passed on. For your own eyes: --include-gated." if found else ""

    def doubt(self) -> str:
        """Returns in words what may have to be kept back, "" if nothing may."""
        if not self.unknown:
            return ""
        return (
            f"Nothing says where the questions of {in_words(self.unknown)} are from: there is no config.json. "
            "Pass them on only if you know that they are not from a gated benchmark."
        )

    def _benchmark(self, tree: RolloutTree) -> str | None:
        """Returns the title of the gated benchmark that a tree's question is from; None for an open or an unknown one."""
        said = str(tree.meta.get("benchmark", ""))
        if tree.meta.get("gated") is not None:
            return (_gated_in(said) or said or "a gated benchmark") if tree.meta["gated"] else None
        return next((title for name in (said, *self._sources(tree)) if (title := _gated_in(name)) is not None), None)

    def _sources(self, tree: RolloutTree) -> list[str]:
        found = [str(tree.meta[name]) for name in _FROM if name in tree.meta]
        if "tasks" in tree.meta:
            return found
        return found + [source for env, source in self.named or () if env in ("", tree.meta.get("env", env))]


def in_words(count: int) -> str:
    """Returns how many trees there are, in words."""
    return "1 tree" if count == 1 else f"{count:,} trees"


def _gated_in(text: str) -> str | None:
    """Returns the title of the gated benchmark that a text, such as the path of a file, names.

    >>> _gated_in("data/GaiaValidation2023.jsonl"), _gated_in("humanitys_last_exam.csv"), _gated_in("gaiety.jsonl")
    ('GAIA', "Humanity's Last Exam", None)
    """
    words = {*re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()), *re.findall(r"[a-z]+", text.lower())}
    for one in BENCHMARKS.values():
        if one.gated and (one.name in words or (_letters(one.title) != one.name and _letters(one.title) in _letters(text))):
            return one.title
    return None


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))
