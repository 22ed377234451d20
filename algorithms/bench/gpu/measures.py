"""What `arpo bench gpu` measures: one function each, which returns numbers, or says why there are none."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from arpo_envs import ArpoError

from ...cli.results import Value

Numbers = dict[str, Value]
Sizes = Literal["full", "toy"]


class Skipped(ArpoError):
    """This machine lacks what a measure needs; the message names it."""


class Broken(ArpoError):
    """A law does not hold.

    Args:
        why: what was found, and what should have been.
        numbers: measured before.
    """

    def __init__(self, why: str, numbers: Mapping[str, Value]) -> None:
        super().__init__(why)
        self.numbers = dict(numbers)


def require(holds: bool, why: str, numbers: Mapping[str, Value]) -> None:
    """Checks a law.

    Raises:
        Broken: it does not hold.
    """
    if not holds:
        raise Broken(why, numbers)


@dataclass(frozen=True)
class Setting:
    """Where to measure, and how much.

    Args:
        device: cpu, cuda or cuda:N.
        sizes: "toy" shows in seconds that everything runs.
        tests: a file of tests for pytest, or "".
    """

    device: str = "cuda"
    sizes: Sizes = "full"
    tests: str = ""


@dataclass(frozen=True)
class Measure:
    """One entry of the record.

    Args:
        name: in the record, and for `--only`.
        home: where its function is, "file:function" below this folder. It takes a `Setting` and returns numbers by name;
            each name ends in its unit, unless it is a ratio or a count.
        group: measures of one group share a process, which takes ten seconds to start.
        seconds: after which it is ended.
    """

    name: str
    home: str
    group: str
    seconds: float

    def run(self, setting: Setting) -> Numbers:
        """Measures, here and now.

        Raises:
            Skipped: something is missing.
            Broken: a law does not hold.
        """
        module, _, function = self.home.partition(":")
        found = getattr(importlib.import_module(f".{module}", __package__), function)
        return cast(Callable[[Setting], Numbers], found)(setting)


MEASURES = (
    Measure("tests", "pytests:passed", "tests", 220.0),
    Measure("gradients, SDPA, float32", "gradients:sdpa_float32", "learner", 60.0),
    Measure("gradients, SDPA, bfloat16", "gradients:sdpa_bfloat16", "learner", 60.0),
    Measure("gradients, FlexAttention, float32", "gradients:flex_float32", "learner", 120.0),
    Measure("gradients, FlexAttention, bfloat16", "gradients:flex_bfloat16", "learner", 120.0),
    Measure("weights in process", "weights:in_process", "learner", 60.0),
    Measure("weights by IPC", "weights:by_ipc", "vLLM", 120.0),
    Measure("sleep and wake", "weights:sleep_and_wake", "vLLM", 120.0),
    Measure("vLLM", "engines:vllm", "vLLM", 150.0),
    Measure("local engine", "engines:local", "speeds", 60.0),
    Measure("update, 0.1B, SDPA", "updates:sdpa_100m", "speeds", 60.0),
    Measure("update, 0.5B, SDPA", "updates:sdpa_500m", "speeds", 60.0),
    Measure("update, 1.5B, SDPA", "updates:sdpa_1500m", "speeds", 90.0),
    Measure("update, 0.1B, FlexAttention", "updates:flex_100m", "speeds", 90.0),
    Measure("update, 0.5B, FlexAttention", "updates:flex_500m", "speeds", 90.0),
    Measure("update, 1.5B, FlexAttention", "updates:flex_1500m", "speeds", 120.0),
)
"""In the order in which they run: first what is right or wrong, then speeds, the slowest last."""
