"""Episodes of `verifiers` whose model is asked here, one reply at a time.

Everything runs as `verifiers` runs it, in a thread with an event loop of its own; only the model's endpoint is ours.
"""

import asyncio
import contextlib
import copy
import json
from collections.abc import Mapping
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any

from verifiers.v1.clients import EvalClientConfig, ModelContext

from ..errors import ToolFault
from .verifiers_endpoint import Endpoint, Told


class VerifiersEpisode:
    """One episode of an environment; its thread, loop, tool servers and endpoint end with it.

    Args:
        env: the environment; its state is that of one run at a time, so the episode has a shallow copy.
        seat: the agent that acts.
        task: one of its tasks.
    """

    def __init__(self, env: Any, seat: str, task: Any) -> None:
        self._env, self._seat, self._given, self._name = copy.copy(env), seat, task, env.config.env_id
        self.task = task.data.name or str(task.data.idx)
        """What the task is called."""
        self._events: SimpleQueue[Told | Exception] = SimpleQueue()
        self._endpoint = Endpoint(self._name, self._events.put)
        self._begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = Future()
        self._calls, self._asked = 0, False
        self._thread = Thread(target=self._live, name=f"verifiers {self._name}", daemon=True)
        self._thread.start()

    def next(self) -> Told:
        """Returns what the model is told next, when it is asked for a reply, or how the episode ended.

        Raises:
            ConfigError: the environment is of a kind that cannot be stepped.
            ToolFault: it failed, or ended before it asked its model anything.
        """
        event = self._events.get()
        if isinstance(event, Exception):
            raise event
        if event.over and not self._asked:
            raise ToolFault(f"{self._name} ended its task {self.task} before it asked its model anything.")
        self._asked = True
        return event

    def reply(self, text: str) -> None:
        """Has the model reply with a text."""
        self._say({"role": "assistant", "content": text})

    def call(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Has the model call a tool."""
        self._calls += 1
        function = {"name": name, "arguments": json.dumps(dict(arguments))}
        called = [{"id": f"call{self._calls}", "type": "function", "function": function}]
        self._say({"role": "assistant", "content": "", "tool_calls": called})

    def _say(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended meanwhile, by a time-out: next() says so
            self._begun.result()[0].call_soon_threadsafe(self._endpoint.say, message)

    def close(self) -> None:
        """Ends the episode wherever it is, and waits until all that ran for it has ended."""
        with contextlib.suppress(RuntimeError):  # its loop is closed, because it has ended; or there never was one
            loop, running = self._begun.result()
            loop.call_soon_threadsafe(running.cancel)
        self._thread.join()

    def _live(self) -> None:
        """Has the episode run, and tells `next` how it ended, whatever ended it.

        An ending may be told twice: what is left of the episode may fail while it is cleared away. Only the first one is read.
        """
        try:
            asyncio.run(self._run())
        except BaseException as error:  # noqa: BLE001  # an environment may fail in any way, also by sys.exit(); next() raises it
            if not self._begun.done():
                self._begun.set_exception(RuntimeError("There was no loop to run it."))
            self._events.put(self._failure(type(error).__name__, error))

    async def _run(self) -> None:
        running = asyncio.current_task()
        assert running is not None
        self._begun.set_result((asyncio.get_running_loop(), running))
        async with self._endpoint.served() as url:
            client = EvalClientConfig(base_url=url, api_key_var="ARPO_ENVS_NEEDS_NO_KEY")
            async with self._env.serving():
                episode = await self._env.run_episode(self._given, ModelContext(model="policy", client=client))
        self._events.put(self._ending(episode))

    def _ending(self, episode: Any) -> Told | Exception:
        if not episode.ok:
            errors = [*episode.errors, *(error for trace in episode.traces for error in trace.errors)]
            return self._failure(errors[0].type, errors[0].message)
        (trace,) = [trace for trace in episode.traces if trace.agent.name == self._seat]
        numbers = {name: reward.value for name, reward in trace.rewards.items() if reward is not None}
        numbers |= {name: value for name, value in trace.metrics.items() if value is not None}
        return Told(over=True, reward=float(trace.reward), truncated=trace.is_truncated or trace.is_timeout, numbers=numbers)

    def _failure(self, kind: str, message: object) -> ToolFault:
        return ToolFault(f"{self._name} failed at its task {self.task}: {kind}: {message}")
