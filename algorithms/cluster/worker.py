"""What lives in a worker: a policy and a renderer, and the rollouts of this process.

A worker gets descriptions and returns values. Whether an error is the machinery's or the data's is decided here, before it
crosses a process: an error of the data is returned and raised as itself on the other side; what is not returned was the
machinery's.
"""

import asyncio
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from arpo_envs import ArpoError, ConfigError

from ..policies import DTYPE, FORGET, SLEEP, Generation, Policy, Sampling
from ..policies.delivered import Delivered
from ..rendering.renderer import Renderer
from ..rollout import Limits, Start, reason
from .growing import Gathered, Growing
from .parcel import portable
from .published import Published, weights_in


class Unfit(ArpoError):
    """A worker cannot do what it was asked for, and one that is made in its place may."""


class OtherWeights(Unfit):
    """A worker was asked for rollouts with weights that it does not have."""


class EngineFailed(Unfit):
    """A worker's policy draws nothing any more, whatever it is asked for: its engine has died, or hangs."""


@dataclass(frozen=True)
class Equipment:
    """What a worker works with.

    Args:
        policy: draws the actions.
        renderer: speaks the environments' dialect and the policy's tokens.
    """

    policy: Policy
    renderer: Renderer


class Described(NamedTuple):
    """What the stand-in of workers says of their policies.

    Args:
        context_length: tokens that a context may have.
        vocabulary_size: tokens that they know.
        dtype: see `policies.DTYPE`.
    """

    context_length: int
    vocabulary_size: int
    dtype: Any


@dataclass(frozen=True)
class Drawing:
    """A request to the policy itself; see `Policy.generate`."""

    context: tuple[int, ...]
    params: Sampling
    seed: int
    offset: int
    tail: str


@dataclass(frozen=True)
class Answer:
    """What a method of a worker returned or, if that is an error, raised."""

    value: Any = None
    error: Exception | None = None


class Worker:
    """A policy with its rollouts, in a process of its own.

    Args:
        make: makes its equipment, when it is first needed.
    """

    def __init__(self, make: Callable[[], Equipment]) -> None:
        self._make = make
        self._made: Equipment | None = None
        self._growing: Growing | None = None

    async def answer(self, method: str, *arguments: Any) -> Answer:
        """Returns what one of the methods below returns or raises, in a form that can be sent."""
        try:
            return Answer(await getattr(self, method)(*arguments))
        except Exception as error:  # noqa: BLE001  # it is raised where the call came from
            return Answer(error=portable(error))

    async def prepare(self) -> Described:
        """Makes the equipment; returns what is to be known of its policy."""
        policy = self._equipment.policy
        return Described(policy.context_length, policy.vocabulary_size, DTYPE.of(policy))

    async def load(self, published: Published | Delivered, version: int) -> None:
        """Gives the policy new weights, or tells it which ones its servers have."""
        weights = published if isinstance(published, Delivered) else await asyncio.to_thread(weights_in, published)
        await self._equipment.policy.load(weights, version)

    async def begin(self, plan: bytes, version: int) -> int:
        """Makes ready for a batch of rollouts; returns how many trees should be under way.

        Args:
            plan: a pickled `Plan`.
            version: of the weights to use.

        Raises:
            OtherWeights: the policy has others.
        """
        policy = self._equipment.policy
        if policy.version != version:
            raise OtherWeights(
                f"These rollouts want weights of version {version}, and the policy has version {policy.version}."
            )
        await self._end_batch()
        self._growing = Growing(pickle.loads(plan), policy, self._equipment.renderer)  # from the process that started this one
        return self._growing.room

    async def grow(self, starts: Mapping[int, Start]) -> Gathered:
        """Begins trees, and returns those that have ended, of these and of earlier ones: at least one.

        Args:
            starts: episodes, by their positions in the batch.

        Raises:
            EngineFailed: the policy failed in some leaf, and draws nothing any more.
            ConfigError: environment, renderer and strategy do not fit together, whatever the task.
        """
        growing = self._growing
        assert growing is not None, "a batch was begun"
        growing.add(starts)
        try:
            found = await growing.ended()
            if found.by_policy:
                await self._require_drawing(growing.plan.limits.policy_timeout)
        except Exception:
            await self._end_batch()
            raise
        return found

    async def draw(self, drawings: Sequence[Drawing]) -> list[Generation | Exception]:
        """Has the policy draw all of them at the same time.

        Raises:
            EngineFailed: it failed, and draws nothing any more.
        """
        policy = self._equipment.policy
        asked = [policy.generate(one.context, one.params, seed=one.seed, offset=one.offset, tail=one.tail) for one in drawings]
        drawn = await asyncio.gather(*asked, return_exceptions=True)
        if any(isinstance(one, Exception) and not isinstance(one, ConfigError) for one in drawn):
            await self._require_drawing(Limits().policy_timeout)
        return [portable(one) if isinstance(one, Exception) else one for one in drawn]  # type: ignore[misc]

    async def forget(self) -> None:
        """Drops what the policy remembers of contexts."""
        await FORGET.of(self._equipment.policy)()

    async def sleep(self) -> None:
        """Makes room on the policy's device."""
        await SLEEP.of(self._equipment.policy)()

    async def close(self) -> None:
        """Frees what the policy holds."""
        await self._end_batch()
        if self._made is not None:
            await self._made.policy.close()

    async def _require_drawing(self, within: float) -> None:
        """Checks that the policy draws anything at all, so that what failed before was due to what it was asked for.

        It is asked for a token. Whatever else it draws meanwhile will do, too: the token may have to wait for many others.
        """
        policy: Any = self._equipment.policy
        policy.drew.clear()
        asked = asyncio.ensure_future(policy.generate([0], Sampling(max_tokens=1), seed=0))
        drew = asyncio.ensure_future(policy.drew.wait())
        try:
            await asyncio.wait((asked, drew), timeout=within, return_when=asyncio.FIRST_COMPLETED)
            if policy.drew.is_set():
                return
            if not asked.done():
                raise TimeoutError(f"it has drawn nothing for {within:g} s")
            await asked
        except ConfigError:
            return  # such as a key that is no longer accepted: another engine would be refused as well
        except Exception as error:  # an engine may fail in any way
            raise EngineFailed(f"Its policy draws nothing any more: {reason(error)}") from error
        finally:
            asked.cancel()
            drew.cancel()
            await asyncio.gather(asked, drew, return_exceptions=True)

    async def _end_batch(self) -> None:
        if self._growing is not None:
            await self._growing.end()
            self._growing = None

    @property
    def _equipment(self) -> Equipment:
        if self._made is None:
            made = self._make()
            self._made = replace(made, policy=_Noticed(made.policy))  # it passes on what it lacks
        return self._made


class _Noticed:
    """A policy of which it is noticed when it has drawn something."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.drew = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    async def generate(self, *arguments: Any, **told: Any) -> Generation:
        found = await self._policy.generate(*arguments, **told)
        self.drew.set()
        return found
