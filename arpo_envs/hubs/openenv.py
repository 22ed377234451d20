"""Any id as a server of OpenEnv: `pip install 'arpo-envs[openenv]'`; `openenv_client` has its typed client.

A WebSocket is a session. `ArpoAction(fork=True)` leaves a copy of its state on the server and returns the copy's handle, from
which any session can go on with `reset(handle=…)`, any number of times. Over plain HTTP nothing has a state to fork.
"""

from collections.abc import Collection
from functools import partial
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from openenv.core.env_server import ConcurrencyConfig, Environment, create_app

from ..errors import ConfigError
from ..forking import fork_level
from .episode import REFUSALS, Episode, Step, close_each, maker, require_id
from .limits import Limits
from .numbered import QUESTIONS, SPLITS, NumberedTasks, Splits
from .openenv_client import ArpoAction, ArpoObservation, ArpoState
from .same_origin import SameOrigin, require_hosts
from .sessions import Sessions


class ArpoEnvironment(Environment[ArpoAction, ArpoObservation, ArpoState]):  # type: ignore[misc]  # as in openenv_client
    """The environment of one session; `make_app` makes the server."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, tasks: NumberedTasks, parked: Sessions) -> None:
        super().__init__()
        self._tasks, self._parked = tasks, parked
        self._episode: Episode | None = None
        self._ended = False
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
            ConfigError: arguments contradict each other, nothing has that id or handle, or the session has ended.
            IndexError: there is no such split, or no task with that index in it.
        """
        self._require_live()
        require_id("An episode", episode_id)
        if handle is not None:
            if (seed, split, index, task) != (None,) * 4:
                raise ConfigError("A handle goes on where it was taken: leave seed, split, index and task out.")
            episode = self._parked.copy(handle)
        else:
            self._parked.require_memory()
            episode = self._tasks.begin(split, index, seed=seed, task=task)
        self._free()
        self._episode, self._begun = episode, (episode_id, 0)
        return _shown(episode.last)

    def step(self, action: ArpoAction, timeout_s: float | None = None, **_: Any) -> ArpoObservation:
        """Takes an action; the environment's own time limits hold."""
        self._require_live()
        if self._episode is None:
            raise HTTPException(409, "No episode has begun in this session: call reset first, over the same WebSocket.")
        if action.fork and action.text is not None:
            raise ConfigError("An action is a string or a fork: send two.")
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
        """Ends the session: the server calls it when the client has gone, or has been idle for too long."""
        self._ended = True
        self._free()

    def _require_live(self) -> None:
        if self._ended:  # the server counts it no more, and would not close what begins now
            raise ConfigError(f"This session was idle for more than {self._parked.limits.idle_seconds:g} s. Connect again.")

    def _free(self) -> None:
        close_each([] if self._episode is None else [self._episode])
        self._episode = None


def _shown(step: Step, handle: str | None = None) -> ArpoObservation:
    told = {"text": step.observation, "truncated": step.truncated, "handle": handle, "metadata": dict(step.info)}
    return ArpoObservation(**told, done=step.done, reward=step.reward)


async def _refused(request: Request, refusal: Exception) -> JSONResponse:
    """Answers a call over plain HTTP that is refused."""
    return JSONResponse({"detail": str(refusal)}, status_code=409)


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
        ConfigError: `hosts` are not names, or the environment cannot be made or its tools cannot be called.
    """
    numbered = NumberedTasks(env_id, arguments, splits, tasks)
    numbered.require_ready()
    parked = Sessions(maker(env_id, arguments), limits)
    make = partial(ArpoEnvironment, numbered, parked)
    room = ConcurrencyConfig(max_concurrent_envs=limits.sessions, session_timeout=limits.idle_seconds)
    app = create_app(
        make, ArpoAction, ArpoObservation, env_name=env_id.replace("/", "-"), concurrency_config=room, state_cls=ArpoState
    )
    for kind in (*REFUSALS, IndexError):
        app.add_exception_handler(kind, _refused)
    app.add_middleware(SameOrigin, hosts=require_hosts(hosts))
    parked.serve_with(app)
    return app
