"""Evaluations while a run trains (`--eval-every`), and the best policy that they found."""

import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape

from ..checkpoint import Best, best
from ..rollout import reason
from .progress import Progress

Record = Mapping[str, Any]
"""Held-out results, as in before.json."""
_INTERVAL = re.compile(r"_interval(?=/|$)")


class Evaluations:
    """Evaluates the policy every few steps, and keeps the best one.

    Args:
        every: steps between evaluations; 0 for none, and then no policy is kept.
        run: its folder.
        before: the results of the policy before its first step.
        measure: returns the results of the policy as it is; called with a name for the evaluation.
        keep: writes the policy as it is as the best one.
        progress: where results are reported.
    """

    def __init__(
        self,
        every: int,
        run: Path,
        before: Record,
        measure: Callable[[str], Awaitable[Record]],
        keep: Callable[[Best], None],
        progress: Progress,
    ) -> None:
        self._every, self._run, self._before = every, run, before
        self._measure, self._keep, self._progress = measure, keep, progress

    async def due(self, step: int) -> dict[str, float]:
        """Evaluates a policy that has taken some steps, if it is time to.

        An evaluation that fails is reported, and the run goes on without it.

        Args:
            step: how many it has taken.

        Returns:
            the metrics of the step that comes next, whose rollouts are those of the same policy.
        """
        if not self._every or step % self._every:
            return {}
        if not step:
            return self.take(step, self._before)
        try:
            record = await self._measure(f"step {step}")
        except Exception as error:  # noqa: BLE001  # one figure among others
            self._progress.note(f"[yellow]not evaluated after step {step}[/]: {escape(reason(error))}")
            return {}
        self._progress.note(f"step {step}: {brief(record)}")
        return self.take(step, record)

    def take(self, step: int, record: Record) -> dict[str, float]:
        """Keeps the policy if it is better than all before; of equal ones, the earliest stays.

        Args:
            step: how many steps it has taken.
            record: its results.

        Returns:
            the results as metrics; none without `--eval-every`.

        Raises:
            Unsaved: there is no room for it, or no permission.
        """
        if not self._every:
            return {}
        now, known = Best(step, record["sampled"]), best(self._run)
        if known is None or (now.success, -now.step) > (known.success, -known.step):
            self._keep(now)
        return as_metrics(record)


def as_metrics(record: Record) -> dict[str, float]:
    """Returns held-out results as metrics of a step.

    Args:
        record: as in before.json.

    >>> as_metrics({"sampled": 0.5, "sampled_interval/Toy-v0": [0.25, 0.75]})
    {'held_out/sampled': 0.5, 'held_out/sampled_low/Toy-v0': 0.25, 'held_out/sampled_high/Toy-v0': 0.75}
    >>> as_metrics({"greedy_env/interval_interval": [0.25, 0.75]})
    {'held_out/greedy_env/interval_low': 0.25, 'held_out/greedy_env/interval_high': 0.75}
    """
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, list | tuple):
            for end, number in zip(("_low", "_high"), value, strict=True):
                found[f"held_out/{_INTERVAL.sub(end, name, count=1)}"] = number
        else:
            found[f"held_out/{name}"] = value
    return found


def brief(record: Record) -> str:
    """Returns the two successes in a line."""
    return f"held-out success {record['sampled']:.3f} sampled, {record['greedy']:.3f} greedy"
