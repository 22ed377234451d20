"""A policy that acts for an agent that is not trained: a function from text to text, inside somebody else's environment."""

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from arpo_envs import ConfigError, Turn

from .. import seeds
from ..policies import Policy, Sampling
from ..rendering.renderer import Renderer
from ..rendering.text import require_dialect
from . import door

T = TypeVar("T")


class PolicyPartner:
    """Lets a policy act for an agent of a game; see `arpo_envs.multi_agent.single_agent`.

    Environments are stepped in threads, and call it there, so it runs the policy in an event loop of its own, one action at a
    time: what it says depends on the conversation and the seed alone, not on who else asks. Copies share the policy and have
    their own conversation. If the context is full, it says nothing, which is the agent's mistake.

    Args:
        policy: for this partner alone; a policy that is trained lives in another loop.
        renderer: turns text into its tokens, and back.
        action_tokens: maximum tokens per action.
        temperature: of the draws; by default the likeliest token is taken.
        seed: of the draws; with equal seeds, equal conversations continue alike. An environment's `reset(seed=…)` and reseeded
            clones replace it.
        timeout: seconds that one action may take, other environments' before it included.

    Raises:
        ConfigError: `action_tokens` is below 1.
    """

    def __init__(
        self,
        policy: Policy,
        renderer: Renderer,
        *,
        action_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        timeout: float = 100.0,
    ) -> None:
        if action_tokens < 1:
            raise ConfigError(f"action_tokens must be at least 1, got {action_tokens}.")
        self.policy, self.renderer = policy, renderer
        self.action_tokens, self.temperature, self.timeout = action_tokens, temperature, timeout
        self.seed = seed
        self._context: list[int] = []
        self._loop = _Loop()

    def __call__(self, turn: Turn) -> str:
        """Returns an action in the turn's dialect.

        Raises:
            ConfigError: the renderer speaks another dialect.
            TimeoutError: the policy took too long.
        """
        if turn.dialect is not None:
            require_dialect(self.renderer, turn.dialect)
        if not self._hear(turn):
            return ""
        limit = min(self.action_tokens, self.policy.context_length - len(self._context))
        if limit < 1:
            return ""
        tokens, said = self._loop.run(self._act(turn, limit), self.timeout)
        self._context = [*self._context, *tokens]
        return said

    def reseed(self, seed: int) -> None:
        """Makes its draws a function of `seed`."""
        self.seed = seed

    def close(self) -> None:
        """Closes the policy and ends the loop, for all copies."""
        self._loop.close(self.policy.close())

    def __deepcopy__(self, memo: dict[int, Any]) -> "PolicyPartner":
        """Returns a partner with the same policy, and a conversation of its own."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self) | {"_context": [*self._context]})
        return twin

    async def _act(self, turn: Turn, limit: int) -> tuple[tuple[int, ...], str]:
        """Draws one action of at most `limit` tokens; returns them and the action in the turn's dialect."""
        stop = () if turn.dialect is None else tuple(turn.dialect.stop)
        tokens: tuple[int, ...] = ()
        text, seed = "", self._drawn_with()
        while True:
            params = Sampling(limit - len(tokens), self.temperature, stop, self.renderer.stop_tokens)
            context = [*self._context, *tokens]
            drawn = await self.policy.generate(context, params, seed=seed, offset=len(tokens), tail=text)
            tokens = (*tokens, *drawn.tokens)
            text = self.renderer.text(tokens)
            said = self.renderer.action(text)
            over = not door.goes_on(drawn, text, said, turn.dialect, self.renderer.stop_tokens)
            if over or len(tokens) >= limit:
                return tokens, said

    def _hear(self, turn: Turn) -> bool:
        """Appends what the agent sees; returns whether it fits."""
        if turn.begins or not self._context:
            self._context = [*self.renderer.start(turn.instructions, turn.observation, turn.tools)]
            return True
        room = self.policy.context_length - len(self._context) - self.action_tokens
        ended = self._context[-1] in self.renderer.stop_tokens
        encoded = self.renderer.observation(turn.observation, max(0, room), ended=ended)
        self._context = [*self._context, *encoded.tokens]
        return encoded.fits

    def _drawn_with(self) -> int:
        """Returns the seed of the next action, a function of the conversation and of `seed`."""
        return seeds.derive(self.seed, tuple(self._context))


class _Loop:
    """An event loop in a thread of its own, begun when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # one action at a time: what a batch holds must not depend on who comes first
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """Returns what a coroutine returns.

        Raises:
            TimeoutError: it took longer than `timeout` seconds, waiting included.
        """
        began = time.monotonic()
        if not self._lock.acquire(timeout=timeout):
            work.close()
            raise TimeoutError
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._begun())
            try:
                return future.result(max(0.0, began + timeout - time.monotonic()))
            except TimeoutError:
                future.cancel()
                raise
        finally:
            self._lock.release()

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Runs a last coroutine, and ends."""
        with self._lock:
            loop = self._begun()
            asyncio.run_coroutine_threadsafe(last, loop).result()
            loop.call_soon_threadsafe(loop.stop)
            assert self._thread is not None
            self._thread.join()
            loop.close()
            self._loop = self._thread = None

    def _begun(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="arpo-partner")
            self._thread.start()
        return self._loop
