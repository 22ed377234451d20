"""Any id as a server of OpenEnv, and its typed client: `pip install 'arpo-envs[openenv]'`.

A WebSocket is a session. `ArpoAction(fork=True)` leaves a copy of its state on the server and returns the copy's handle, from
which any session can go on with `reset(handle=…)`, any number of times. Over plain HTTP nothing has a state to fork.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import HTTPException
from openenv.core import EnvClient
from openenv.core.client_types import StepResult
from openenv.core.env_server import Action, ConcurrencyConfig, Environment, Observation, State, create_app

from ..errors import ConfigError
from ..forking import fork_level
from .episode import Episode, Step, begin, close_each, maker
from .numbered import QUESTIONS, SPLITS, NumberedTasks, Splits
from .same_origin import SameOrigin, require_hosts
from .sessions import Limits, Sessions


class ArpoAction(Action):  # type: ignore[misc]  # as below: not installed where types are checked
    """A text for the environment, or the wish for a copy of its state."""

    text: str | None = None
    fork: bool = False


class ArpoObservation(Observation):  # type: ignore[misc]
    """What a model reads next; `metadata` is `info`. A fork returns the same observation again, with the copy's handle."""

    text: str
    truncated: bool = False
    handle: str | None = None


class ArpoState(State):  # type: ignore[misc]
    """What is known of a session."""

    env_id: str = ""
    task: str | None = None
    instructions: str = ""
    fork_level: str = ""


class ArpoEnvironment(Environment[ArpoAction, ArpoObservation, ArpoState]):  # type: ignore[misc]
    """The environment of one session; `make_app` makes the server."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, tasks: NumberedTasks, parked: Sessions) -> None:
        super().__init__()
        self._tasks, self._parked = tasks, parked
        self._episode: Episode | None = None
        self._begun: tuple[str | None, int] = (None, 0)  # the episode's id, and its steps
        for question in QUESTIONS:  # what makes it a task provider
            setattr(self, question, getattr(tasks, question))

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        split: str | None = None,
        index: int | None = None,
        task: str | None = None,
        handle: str | None = None,
    ) -> ArpoObservation:
        """Begins an episode, drawn with a seed, or of a task by its split and index or by its id; or goes on from a handle.

        Raises:
            ConfigError: arguments contradict each other, or nothing has that id or handle; the running episode goes on.
            IndexError: there is no such split, or no task with that index in it.
        """
        if handle is not None:
            if (seed, split, index, task) != (None,) * 4:
                raise ConfigError("A handle goes on where it was taken: leave seed, split, index and task out.")
            episode = self._parked.copy(handle)
        else:
            self._parked.require_memory()
            if index is not None:
                if given := [name for name, value in (("seed", seed), ("task", task)) if value is not None]:
                    raise ConfigError(f"An index chooses the task and the seed: leave {' and '.join(given)} out, or index.")
                seed, split = index, self._tasks.require(split or self._tasks.list_splits()[0], index)
            episode = begin(partial(self._tasks.make, split), seed=seed, task=task)
        self.close()
        self._episode, self._begun = episode, (episode_id, 0)
        return _shown(episode.last)

    def step(self, action: ArpoAction, timeout_s: float | None = None, **_: Any) -> ArpoObservation:
        """Takes an action; the environment's own time limits hold."""
        if self._episode is None:
            raise HTTPException(409, "No episode has begun in this session: call reset first, over the same WebSocket.")
        if action.fork and action.text is not None:
            raise ConfigError("An action is a text or a fork: send two.")
        if action.fork:
            return _shown(self._episode.last, self._parked.park(self._episode))
        step = self._episode.act(action.text)
        self._begun = (self._begun[0], self._begun[1] + 1)
        return _shown(step)

    @property
    def state(self) -> ArpoState:
        """What is known of the session."""
        known = ArpoState(episode_id=self._begun[0], step_count=self._begun[1], env_id=self._tasks.env_id)
        if self._episode is not None:
            known.task, known.instructions = self._episode.last.info.get("task"), self._episode.instructions
            known.fork_level = fork_level(self._episode.env).value
        return known

    def close(self) -> None:
        """Frees the session's environment."""
        if self._episode is not None:
            close_each([self._episode])
            self._episode = None


def _shown(step: Step, handle: str | None = None) -> ArpoObservation:
    told = {"text": step.observation, "truncated": step.truncated, "handle": handle, "metadata": dict(step.info)}
    return ArpoObservation(**told, done=step.done, reward=step.reward)


def make_app(
    env_id: str,
    *,
    limits: Limits = Limits(),
    splits: Splits = SPLITS,
    tasks: int = 1000,
    hosts: Collection[str] = (),
    **arguments: Any,
) -> Any:
    """Returns the server of one id, a FastAPI app; it asks nobody for a password.

    Args:
        env_id: of the environment.
        limits: on sessions, idle time and memory; copies that wait are counted apart, under the same limits.
        splits: arguments of `gym.make` by the name of a split.
        tasks: of each split.
        hosts: names or addresses, without ports, under which clients reach the server besides those of loopback, and of web
            pages elsewhere that may call it. Calls under other names, and from other pages than its own, are refused.
        arguments: of `gym.make`.

    Raises:
        ConfigError: `hosts` are no names.
    """
    parked = Sessions(maker(env_id, arguments), limits)
    app = create_app(
        partial(ArpoEnvironment, NumberedTasks(env_id, arguments, splits, tasks), parked),
        ArpoAction,
        ArpoObservation,
        env_name=env_id.replace("/", "-"),
        concurrency_config=ConcurrencyConfig(max_concurrent_envs=limits.sessions, session_timeout=limits.idle_seconds),
        state_cls=ArpoState,
    )
    app.add_middleware(SameOrigin, hosts=require_hosts(hosts))
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        async with parked.served(), inner(app) as state:
            yield state

    app.router.lifespan_context = lifespan
    return app


class ArpoClient(EnvClient[ArpoAction, ArpoObservation, ArpoState]):  # type: ignore[misc]
    """The client of `make_app`'s server."""

    def _step_payload(self, action: ArpoAction) -> dict[str, Any]:
        return dict(action.model_dump(exclude_none=True))

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[ArpoObservation]:
        told = {"done": payload["done"], "reward": payload["reward"]}
        return StepResult(observation=ArpoObservation(**payload["observation"], **told), **told)

    def _parse_state(self, payload: dict[str, Any]) -> ArpoState:
        return ArpoState(**payload)
