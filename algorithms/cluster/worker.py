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

from ..branching.strategy import BranchingStrategy
from ..policies import DTYPE, FORGET, SLEEP, Generation, Policy, Sampling
from ..policies.delivered import Delivered
from ..rendering.renderer import Renderer
from ..rollout import Failures, Limits, MakeEnv, Start, Trouble, reason, try_collect
from ..tree import Status
from .parcel import packed
from .published import Published, weights_in

_BY_POLICY = (Status.POLICY_FAULT, Status.POLICY_TIMEOUT)


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
class Plan:
    """What all rollouts of a batch have in common; it is pickled once per batch.

    Args:
        make_env: returns a fresh environment.
        branching: where trees grow.
        rollouts: M, leaves per tree.
        seed: of the run.
        step: of the run.
        limits: of the rollouts.
    """

    make_env: MakeEnv
    branching: BranchingStrategy
    rollouts: int
    seed: int
    step: int
    limits: Limits


@dataclass(frozen=True)
class Gathered:
    """The rollouts of some prompts.

    Args:
        trees: as `packed`.
        troubles: what went wrong in each tree.
        clone_seconds: see `rollout.Collected`.
        counts: the same.
        noted: what failed, why, and how many leaves it cost.
    """

    trees: bytes
    troubles: Sequence[Trouble]
    clone_seconds: float
    counts: Mapping[str, float]
    noted: Sequence[tuple[str, BaseException, int]]


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

    async def collect(self, plan: bytes, starts: Sequence[Start], first: int, version: int) -> Gathered:
        """Grows the trees of some prompts.

        Args:
            plan: a pickled `Plan`.
            starts: their episodes.
            first: position of the first in the whole batch.
            version: of the weights to use.

        Raises:
            OtherWeights: the policy has others.
            EngineFailed: the policy failed in some leaf, and draws nothing any more.
            ConfigError: environment, renderer and strategy do not fit together, whatever the task.
        """
        policy, renderer = self._equipment.policy, self._equipment.renderer
        if policy.version != version:
            raise OtherWeights(
                f"These rollouts want weights of version {version}, and the policy has version {policy.version}."
            )
        wanted: Plan = pickle.loads(plan)  # from the process that started this one
        remembered = _Remembered()
        told = {"seed": wanted.seed, "step": wanted.step, "limits": wanted.limits}
        found = await try_collect(
            wanted.make_env,
            starts,
            policy,
            renderer,
            wanted,
            first=first,
            failures=remembered,
            **told,  # type: ignore[arg-type]
        )
        if any(tree.nodes[leaf].status in _BY_POLICY for tree in found.trees for leaf in tree.leaves()):
            await self._require_drawing(wanted.limits.policy_timeout)
        troubles = [_portable(one) for one in found.troubles]
        return Gathered(packed(found.trees), troubles, found.clone_seconds, found.counts, remembered.noted)

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
        if self._made is not None:
            await self._made.policy.close()

    async def _require_drawing(self, within: float) -> None:
        """Checks that the policy draws a token at all, so that what failed before was due to what it was asked for."""
        try:
            async with asyncio.timeout(within):
                await self._equipment.policy.generate([0], Sampling(max_tokens=1), seed=0)
        except Exception as error:  # an engine may fail in any way
            raise EngineFailed(f"Its policy draws nothing any more: {reason(error)}") from error

    @property
    def _equipment(self) -> Equipment:
        if self._made is None:
            self._made = self._make()
        return self._made


class _Remembered(Failures):
    """Keeps failures for the process that reports them."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[str, BaseException, int]] = []

    def note(self, what: str, error: BaseException, count: int = 1) -> None:
        self.noted.append((what, portable(error), count))


def _portable(trouble: Trouble) -> Trouble:
    changes = {name: portable(error) for name, error in vars(trouble).items() if error is not None}
    return replace(trouble, **changes)


def portable(error: Any) -> Any:
    """Returns an error that another process can read: itself, if it survives that, or else its reason.

    >>> portable(ValueError("no")), portable(UnicodeDecodeError("utf-8", b"", 0, 1, "bad"))
    (ValueError('no'), UnicodeDecodeError('utf-8', b'', 0, 1, 'bad'))
    """
    try:
        again = pickle.loads(pickle.dumps(error))  # our own bytes
    except Exception:  # noqa: BLE001  # an error of a tool may hold anything
        again = None
    if type(again) is type(error) and reason(again) == reason(error):
        return error.with_traceback(None)
    return ArpoError(reason(error))
