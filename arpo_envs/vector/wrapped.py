"""Forks rows through wrappers around a vector environment, which count for each row."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.wrappers.vector import NormalizeReward, RecordEpisodeStatistics

from ..errors import ConfigError
from ..members import PER_ROW
from .dispatch import Rows
from .env import ForkableVectorEnv

GYMNASIUMS: Mapping[type[Any], frozenset[str]] = {
    RecordEpisodeStatistics: frozenset({"episode_start_times", "episode_returns", "episode_lengths", "prev_dones"}),
    NormalizeReward: frozenset({"accumulated_reward", "_prev_dones"}),
}
"""What Gymnasium's own wrappers keep for each row."""


def fork(
    envs: "VectorEnv[Any, Any, Any]", source: int, targets: Rows, *, seeds: Sequence[int | None] | None = None
) -> tuple[Any, dict[str, Any]]:
    """Copies one row's state to others, in a vector environment and in the wrappers around it.

    A wrapper that keeps arrays with one place for each row names them in its class attribute `per_row`; those of Gymnasium's
    own wrappers are known. What a wrapper changes in observations and infos is not seen in what this returns.

    Args:
        envs: a `ForkableVectorEnv`, alone or in wrappers.
        source: the row that is copied.
        targets: the rows that become copies; see `ForkableVectorEnv.fork`, also for `seeds` and what is returned.
        seeds: one for each target, or None.

    Raises:
        ConfigError: the vector environment inside is of another kind, or the rows are wrong.
        ForkError: the row cannot be copied; nothing has changed.

    >>> import gymnasium as gym, arpo_envs
    >>> from arpo_envs.vector import fork
    >>> envs = gym.wrappers.vector.RecordEpisodeStatistics(gym.make_vec("ARPO/SearchMini-v0", num_envs=2))
    >>> observations, infos = envs.reset(seed=7)
    >>> *_, infos = envs.step(["<search>France</search>", "<search>Chad</search>"])
    >>> observations, infos = fork(envs, 0, [1])
    >>> infos["task"].item() == envs.unwrapped.envs[0].unwrapped.task.id
    True
    >>> envs.close()
    """
    base = envs.unwrapped
    if not isinstance(base, ForkableVectorEnv):
        raise ConfigError(f"Rows of {type(base).__name__} cannot be forked; those of ForkableVectorEnv can.")
    returned = base.fork(source, targets, seeds=seeds)
    for wrapper in _wrappers(envs):
        kinds = [names for kind, names in GYMNASIUMS.items() if isinstance(wrapper, kind)]
        for name in PER_ROW.of(type(wrapper)).union(*kinds):
            values = getattr(wrapper, name)
            values[list(targets)] = values[source]
    return returned


def _wrappers(envs: "VectorEnv[Any, Any, Any]") -> "Iterator[VectorWrapper[Any, Any, Any, Any, Any]]":
    while isinstance(envs, VectorWrapper):
        yield envs
        envs = envs.env
