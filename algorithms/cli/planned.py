"""What `arpo plan` reads of finished runs: their trees, their seconds, and what their configuration says of a step."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

from arpo_envs import ConfigError

from ..cluster.planning import Layout, Machine, Setting, Taken, Tools, Workload, fitted, predict, shape_of, workload_of
from ..learner import LearnerConfig
from ..policies.served import split_urls
from ..rollout import Limits
from ..tree import RolloutTree
from .budget import logged
from .config import TrainConfig
from .stored import stored
from .tracked import METRICS

_MOST_STEPS = 12
"""How many of a run's last steps are read: those of the policy that the next ones begin with."""
_SAME_PATHS = ("env", "env_args", "train_args", "prompt", "examples", "policy", "model_folder", "context_length", "limits")
"""Settings on which the lengths of paths depend; runs that differ in nothing else have paths alike."""


@dataclass(frozen=True)
class Finished:
    """A run with at least one step.

    Args:
        folder: of the run.
        config: it ran with.
    """

    folder: Path
    config: TrainConfig

    @classmethod
    def of(cls, folder: Path) -> "Finished":
        """Returns the run in a folder.

        Raises:
            ConfigError: there is none.
        """
        return cls(folder, TrainConfig.load(folder))

    @cached_property
    def seconds(self) -> dict[int, tuple[float, float]]:
        """Seconds of rollouts and of the update by step; not of the first step, if there are others, because it warms up.

        Raises:
            ConfigError: the run has no step.
        """
        found = {
            int(record["step"]): (float(record["rollout_seconds"]), float(record["update_seconds"]))
            for record in logged(self.folder / METRICS)
        }
        if not found:
            raise ConfigError(f"{self.folder} has taken no step yet: its metrics.jsonl has no times of steps.")
        steps = sorted(found)[len(found) > 1 :]
        return {step: found[step] for step in steps[-_MOST_STEPS:]}

    @cached_property
    def trees(self) -> dict[int, list[RolloutTree]]:
        """The trees of the same steps, as far as they were kept.

        Raises:
            ConfigError: none were, or the run has no step.
        """
        steps = self.seconds  # first: a run without a step has no trees either
        kept = stored(self.folder)
        first = kept.step_of(0)
        return {step: [kept.tree(number) for number in kept.of_step(step)] for step in steps if step >= first}

    @property
    def limits(self) -> Limits:
        """The limits of its rollouts."""
        return self.config.limits or Limits()

    @property
    def layout(self) -> Layout:
        """Its engines and learners."""
        return layout_of(self.config)

    def taken(self) -> list[Taken]:
        """Returns its steps, for constants to be fitted to them."""
        probe = self.config.make_algorithm().branching.probe
        return [
            Taken(tuple(shape_of(tree, probe=probe) for tree in trees), *self.seconds[step], self.limits.mode)
            for step, trees in self.trees.items()
        ]

    def workload(self, others: "Sequence[Finished]" = ()) -> Workload:
        """Returns what its steps have to do, judged by the trees of others if those have paths like its own."""
        like = [run for run in others if run.has_paths_like(self)]
        trees = [tree for run in like or [self] for grown in run.trees.values() for tree in grown]
        return workload_of(trees, self.config.make_algorithm(), self.config.prompts)

    def has_paths_like(self, other: "Finished") -> bool:
        """Whether runs differ in nothing that the lengths of paths depend on."""
        return all(getattr(self.config, name) == getattr(other.config, name) for name in _SAME_PATHS)


def layout_of(config: TrainConfig) -> Layout:
    """Returns the engines and learners of a configuration.

    Without a cluster and servers, which count as engines, it has one of each on the same device.
    """
    placement, urls, limits = config.placement, config.source.urls, config.limits or Limits()
    processes = placement.count if placement.is_elsewhere else 0
    return Layout(
        engines=processes or 1 if urls is None else len(split_urls(urls)),
        learners=placement.learners,
        shared=not placement.is_elsewhere and urls is None,
        ahead=1 if placement.ahead else 0,
        mode=limits.mode,
        threads=limits.threads,
        elsewhere=processes,
    )


def machine_of_runs(runs: Sequence[Finished]) -> Machine:
    """Returns the constants that explain what the steps of some runs took; tools must have answered at once.

    Raises:
        ConfigError: their micro-batches differ in size, or several engines or learners have shared the work.
    """
    for run in runs:
        if (run.layout.engines, run.layout.learners) != (1, 1):
            raise ConfigError(
                f"{run.folder.name} ran with --engines {run.layout.engines} and --learners {run.layout.learners}; constants "
                "are fitted to steps of one engine and one learner. Give --machine FILE, from `arpo bench machine --json FILE`."
            )
    sizes = {(run.config.learner or LearnerConfig()).micro_batch_tokens for run in runs}
    if len(sizes) > 1:
        raise ConfigError(f"Constants cannot be fitted to runs with different --micro-batch-tokens: {sorted(sizes)}.")
    return fitted([step for run in runs for step in run.taken()], micro_batch_tokens=sizes.pop())


@dataclass(frozen=True)
class Comparison:
    """What was predicted of a finished run's step, and what it took; in seconds, medians over steps.

    Args:
        name: of the run's folder.
        rollout: predicted and measured.
        update: predicted and measured.
        own_paths: whether its own trees were needed to know how long paths are.
    """

    name: str
    rollout: tuple[float, float]
    update: tuple[float, float]
    own_paths: bool

    @property
    def error(self) -> float:
        """Relative error of the whole step."""
        return (self.rollout[0] + self.update[0]) / (self.rollout[1] + self.update[1]) - 1.0


def compared(run: Finished, machine: Machine, others: Sequence[Finished], tools: Tools, *, seed: int, steps: int) -> Comparison:
    """Predicts a finished run from others, and says what it took.

    Args:
        run: to predict.
        machine: constants from elsewhere.
        others: whose trees are used where their paths are like those of the run.
        tools: how long its tools take.
        seed: of the prediction.
        steps: to simulate.
    """
    step = predict(Setting(machine, run.workload(others), run.layout, tools, seed=seed, steps=steps))
    rollout, update = (median(column) for column in zip(*run.seconds.values(), strict=True))
    is_own = not any(other.has_paths_like(run) for other in others)
    return Comparison(run.folder.name, (step.rollout, rollout), (step.update, update), is_own)
