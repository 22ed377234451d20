"""What is known of a benchmark."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .layouts import ANSWER_TYPES, Kind

Metric = Literal["accuracy", "f1", "judge"]
"""What publications report: share of right answers, token F1, or the verdict of a language model."""

Columns = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Brings a published row, its column names in lower case, into the benchmark's layout; raises `ValueError` with the reason if
it cannot be asked."""


def unchanged(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a row as it is published."""
    return row


@dataclass(frozen=True)
class Hub:
    """Where a benchmark is published on the Hugging Face hub.

    Args:
        id: of the data set, OWNER/NAME; or a folder.
        split: that is asked.
        config: of the data set, if it has several.
        revision: commit that is read; None where none is known to us, and then the newest is read.
    """

    id: str
    split: str
    config: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """A published set of questions.

    Args:
        name: by which commands know it.
        title: as its authors write it.
        hub: where it is published.
        layout: of its rows.
        metric: that publications report.
        env: id of the environment it runs in.
        tools: that it needs there.
        licence: of the questions, as published; "unknown" where we have not read it.
        access: how to get a gated one, or what its authors ask for; "" for an open one.
        gated: whether it must be asked for, or its authors ask not to redistribute it.
        columns: what a published row needs to fit the layout.
    """

    name: str
    title: str
    hub: Hub
    layout: Kind
    metric: Metric
    env: str
    tools: tuple[str, ...]
    licence: str
    access: str = ""
    gated: bool = False
    columns: Columns = unchanged

    @property
    def answer_type(self) -> str:
        """How its answers are judged; see `arpo_envs.rewards.check`."""
        return ANSWER_TYPES[self.layout]
