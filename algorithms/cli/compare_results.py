"""What a comparison found: costs and results of its runs, curves at common points of cost, and differences between arms."""

import json
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation import Contrast, contrasts, interquartile_interval, interquartile_mean, over_cost
from .budget import logged

CELLS = 40
"""Points of a curve."""
COSTS = ("calls", "tokens", "seconds")
SUCCESS = "success"
Array = NDArray[np.float64]
Values = Mapping[str, Mapping[tuple[str, Hashable], float]]
"""A measure of each run: by arm, then by environment and seed."""


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Args:
        env: its environment.
        arm: its arm.
        seed: its seed.
        rewards: of each step, what the policy earned whatever was forked: `unforked_reward`.
        costs: what each step cost, for each of `COSTS`.
        before: held-out success before training, sampled.
        success: after training, sampled.
        greedy: after training, greedy.
    """

    env: str
    arm: str
    seed: int
    rewards: tuple[float, ...]
    costs: Mapping[str, tuple[float, ...]]
    before: float
    success: float
    greedy: float

    @classmethod
    def read(cls, folder: Path, env: str, arm: str, seed: int) -> "Trained":
        """Reads what `arpo train` left in a folder."""
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        steps = list(logged(folder / "metrics.jsonl"))
        costs = {
            "calls": tuple(step["tool_calls"] for step in steps),
            "tokens": tuple(step["sampled_tokens"] for step in steps),
            "seconds": tuple(step["rollout_seconds"] + step["update_seconds"] for step in steps),
        }
        rewards = tuple(step["unforked_reward"] for step in steps)
        held_out = (summary[f"success_{name}"] for name in ("before_sampled", "after_sampled", "after_greedy"))
        return cls(env, arm, seed, rewards, costs, *held_out)

    def total(self, cost: str) -> float:
        """Returns what it cost in all."""
        return math.fsum(self.costs[cost])


@dataclass(frozen=True)
class Comparison:
    """Finished runs of several arms on the same environments and seeds.

    Args:
        runs: of all of them.
        arms: their names; the first one is compared with the others.
        budget: executed tool calls that each run was given.
        alone: whether the runs had the machine to themselves, so that their seconds can be compared.
    """

    runs: Sequence[Trained]
    arms: Sequence[str]
    budget: int
    alone: bool

    @property
    def envs(self) -> list[str]:
        """The environments, in the order of the runs."""
        return list(dict.fromkeys(run.env for run in self.runs))

    @property
    def seeds(self) -> list[int]:
        """The seeds."""
        return sorted({run.seed for run in self.runs})

    @property
    def costs(self) -> tuple[str, ...]:
        """By which costs the runs can be compared."""
        return COSTS if self.alone else COSTS[:-1]

    def common(self, env: str, cost: str) -> float:
        """Returns how much all runs of an environment have spent, at least; of tool calls, the budget at most."""
        least = min(run.total(cost) for run in self.runs if run.env == env)
        return min(least, float(self.budget)) if cost == "calls" else least

    def measures(self) -> dict[str, Values]:
        """Returns the measures that arms are compared by; `reward_by_COST` is the mean reward up to the common cost."""
        found: dict[str, Values] = {SUCCESS: self._by_arm({id(run): run.success for run in self.runs})}
        for cost in self.costs:
            ends = {env: self.common(env, cost) for env in self.envs if self.common(env, cost) > 0}
            if len(ends) == len(self.envs):
                means = {id(run): _mean_reward(run, cost, ends[run.env]) for run in self.runs}
                found[f"reward_by_{cost}"] = self._by_arm(means)
        return found

    def _by_arm(self, value: Mapping[int, float]) -> Values:
        return {arm: {(run.env, run.seed): value[id(run)] for run in self.runs if run.arm == arm} for arm in self.arms}

    def contrasts(self) -> dict[str, list[Contrast]]:
        """Returns the first arm less each of the others, by measure."""
        return {name: contrasts(values) for name, values in self.measures().items()}

    def curves(self, env: str, cost: str) -> tuple[Array, dict[str, Array]]:
        """Returns the rewards of an environment while a cost is spent.

        Returns:
            edges: [CELLS + 1] of the cost.
            arms: for each arm [3, CELLS]: interquartile mean over seeds, and the ends of its interval.
        """
        edges = np.linspace(0.0, self.common(env, cost), CELLS + 1)
        found = {}
        for arm in self.arms:
            own = [run for run in self.runs if (run.env, run.arm) == (env, arm)]
            cells = np.stack([over_cost(run.costs[cost], run.rewards, edges) for run in own], axis=-1)
            found[arm] = np.stack([interquartile_mean(cells), *interquartile_interval([cells])])
        return edges, found

    def document(self) -> dict[str, Any]:
        """Returns everything for JSON; what depends on the clock has "seconds" in its name."""
        return {
            "budget_calls": self.budget,
            "arms": list(self.arms),
            "envs": self.envs,
            "seeds": self.seeds,
            "runs_alone": self.alone,
            "common_cost": {env: {cost: self.common(env, cost) for cost in self.costs} for env in self.envs},
            "runs": list(self._rows()),
            "contrasts": {name: [asdict(one) for one in found] for name, found in self.contrasts().items()},
            "curves": {
                env: {cost: self._curve(env, cost) for cost in self.costs if self.common(env, cost) > 0} for env in self.envs
            },
        }

    def _rows(self) -> Iterator[dict[str, Any]]:
        measures = self.measures()
        for run in self.runs:
            own = {name: values[run.arm][run.env, run.seed] for name, values in measures.items()}
            held_out = {"success_before": run.before, "success_greedy": run.greedy}
            spent = {cost: run.total(cost) for cost in COSTS}
            yield {"env": run.env, "arm": run.arm, "seed": run.seed, "steps": len(run.rewards), **spent, **held_out, **own}

    def _curve(self, env: str, cost: str) -> dict[str, Any]:
        edges, arms = self.curves(env, cost)
        named = {arm: dict(zip(("reward", "low", "high"), rows.tolist(), strict=True)) for arm, rows in arms.items()}
        return {"edges": edges.tolist(), "arms": named}


def _mean_reward(run: Trained, cost: str, end: float) -> float:
    return float(over_cost(run.costs[cost], run.rewards, [0.0, end])[0])
