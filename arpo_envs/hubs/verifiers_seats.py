"""Environments of `verifiers` in which one seat is played from here, one reply at a time, and not by a program of its own."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from verifiers.v1.configs.agent import agent_config_fields
from verifiers.v1.configs.env import default_agent_harness
from verifiers.v1.runtimes import SubprocessConfig
from verifiers.v1.utils.loaders import harness_config_type, load_environment, resolve_env_config

from ..errors import ConfigError, unknown_name
from ..tools.spec import ToolSpec
from .verifiers_episode import VerifiersEpisode

_OURS = "arpo-envs-verifiers"
_REPLACEABLE = ("bash", "null", _OURS)
"""Programs for which ours may stand: the general default, whose shell is then missing, and those that only pass messages on."""


@dataclass(frozen=True)
class Prepared:
    """An environment with its tasks, loaded once.

    Args:
        name: what errors call it.
        env: of `verifiers`.
        seat: the agent that acts.
        tasks: at least one.
        tools: of its first task.
    """

    name: str
    env: Any
    seat: str
    tasks: tuple[Any, ...]
    tools: tuple[ToolSpec, ...] = ()

    def begin(self, rng: np.random.Generator) -> tuple[str, VerifiersEpisode]:
        """Starts an episode of a task that is drawn; returns the task's name, and the episode."""
        episode = VerifiersEpisode(self.env, self.seat, self.tasks[int(rng.integers(len(self.tasks)))])
        return episode.task, episode


@lru_cache(maxsize=16)
def prepared(settings: str) -> Prepared:
    """Loads an environment, and asks its first task for the tools.

    Args:
        settings: as JSON: taskset, env, seat, config, tasks; see `from_verifiers.make`.

    Raises:
        ConfigError: an id is unknown, or the environment is of a kind that cannot be stepped.
        ToolFault: it failed.
    """
    given = json.loads(settings)
    env, seat = seated(given["taskset"], given["env"], given["seat"], given["config"])
    tasks = tuple(islice(iter(env.taskset), given["tasks"]))
    if not tasks:
        raise ConfigError(f"The taskset {given['taskset']} has no tasks.")
    episode = VerifiersEpisode(env, seat, tasks[0])
    try:
        return Prepared(env.config.env_id, env, seat, tasks, episode.next().tools)
    finally:
        episode.close()


def seated(taskset: str, env: str, seat: str, config: Mapping[str, Any]) -> tuple[Any, str]:
    """Returns an environment whose seat is played by our harness and the run's model, and the name of that seat.

    Args:
        taskset: its id.
        env: the id of the environment that plays it, or "".
        seat: the agent that acts, or "" for the only one.
        config: what else the `[env]` block says.

    Raises:
        ConfigError: an id is unknown, the block does not fit, or the seat cannot be played reply by reply.
    """
    name = f"{env}+{taskset}" if env else taskset
    try:
        block = resolve_env_config({**config, "id": env, "taskset": {**config.get("taskset", {}), "id": taskset}})
    except (ImportError, AttributeError, TypeError, ValueError) as error:  # as their loaders raise
        raise ConfigError(f"verifiers has no environment {name} with this configuration: {error}") from error
    seats = agent_config_fields(block)
    seat = _chosen(name, seat, seats)
    mine = seats[seat]
    program = (mine.harness or default_agent_harness(taskset)).id
    if program not in _REPLACEABLE:
        raise ConfigError(
            f"The seat {seat!r} of {name} is played by the program {program!r}, which has a loop and tools of its own: it "
            "cannot be stepped reply by reply."
        )
    update = {"harness": harness_config_type(_OURS)(id=_OURS), "runtime": SubprocessConfig(), "model": None, "client": None}
    loaded = load_environment(block.model_copy(update={seat: mine.model_copy(update=update)}))
    if type(loaded.taskset).task_type().NEEDS_CONTAINER:
        raise ConfigError(
            f"The tasks of {name} need a container, in which a program works; they cannot be stepped reply by reply."
        )
    return loaded, seat


def _chosen(name: str, seat: str, seats: Mapping[str, Any]) -> str:
    """Returns the seat that is played; the others need models of their own."""
    if not seat and len(seats) > 1:
        raise ConfigError(f"{name} has the seats {', '.join(seats)}: say which one acts, as seat={next(iter(seats))!r}.")
    seat = seat or next(iter(seats))
    if seat not in seats:
        raise unknown_name("seat", seat, seats)
    for other, spec in seats.items():
        if other != seat and (spec.model is None or spec.client is None):
            raise ConfigError(
                f"The seat {other!r} of {name} needs a model of its own: "
                f'config={{"{other}": {{"model": …, "client": {{"type": "eval", "base_url": …}}}}}}.'
            )
    return seat
