"""`arpo eval --closed-book`: the same questions without tools. What is right then was remembered, not found."""

from collections.abc import Sequence
from pathlib import Path

from arpo_envs import ConfigError

from ..evaluation import Attempt, estimates
from .environments import arguments_of
from .results import Value

_LIMIT = "max_tool_calls"
_SCORES = ("success", "em", "f1", "judge")
PREFIX = "closed_book/"


def without_tools(env: str, words: Sequence[str]) -> tuple[str, ...]:
    """Returns the arguments with which an environment asks its questions without tools.

    Raises:
        ConfigError: it has no such argument.
    """
    if _LIMIT not in arguments_of(env):
        raise ConfigError(f"{env} has no argument {_LIMIT}, so it cannot be asked without tools. Leave out --closed-book.")
    return (*words, f"{_LIMIT}=0")


def closed_file(records: Path | None) -> Path | None:
    """Returns the file of the answers without tools."""
    return records.with_name(f"{records.name}.closed") if records is not None else None


def of_closed_book(attempts: Sequence[Attempt], closed: Sequence[Attempt]) -> dict[str, Value]:
    """Returns what the result says of the answers without tools; nothing if they were not asked.

    Args:
        attempts: with tools.
        closed: without.

    Returns:
        Each score with its interval, and `right_without_tools`: of the questions that are right with tools at least once, the
        share that is right without them at least once; None if no question is. Questions that were not answered without tools,
        through no fault of the model, do not count.
    """
    if not closed:
        return {}
    record: dict[str, Value] = {}
    for name, found in estimates(closed).items():
        if name in _SCORES:
            key = f"{PREFIX}{name}"
            record |= {key: found.mean, f"{key}_low": found.low, f"{key}_high": found.high}
    right, remembered = ({one.key for one in some if one.success == 1.0} for some in (attempts, closed))
    right &= {one.key for one in closed if one.counts}
    return record | {"right_without_tools": len(right & remembered) / len(right) if right else None}
