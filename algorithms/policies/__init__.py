"""What a policy is: tokens in, tokens out; the same for a 1M model and a cluster.

To add a policy, write one file here with a class that has the members of `Policy`; see
`docs/add-a-policy.md`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from arpo_envs import ConfigError, members


@dataclass(frozen=True)
class Sampling:
    """How to draw an action.

    Training draws from the model's own distribution (no top-p, no top-k), so that stored
    log-probabilities are the learner's.

    Args:
        max_tokens: the action ends after at most this many tokens.
        temperature: of the softmax; 0 means greedy.
        stop: the action ends with the first of these strings, which is part of it.
        stop_tokens: token ids that end the action and are part of it (end of turn, end of text).
    """

    max_tokens: int
    temperature: float = 1.0
    stop: tuple[str, ...] = ()
    stop_tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Generation:
    """What a policy drew.

    Args:
        tokens: ids [T].
        logprobs: [T], nats, at the sampling temperature (at temperature 0: of the undivided logits).
        entropies: [T], nats, of the full vocabulary unless the backend documents otherwise.
        finish: "stop" if the action is complete, "length" if it ran into `max_tokens`.
        version: of the weights.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    finish: Literal["stop", "length"]
    version: int


@runtime_checkable
class Policy(Protocol):
    """Draws actions."""

    version: int
    context_length: int
    vocabulary_size: int

    async def generate(
        self, context: Sequence[int], params: Sampling, *, seed: int, offset: int = 0, tail: str = ""
    ) -> Generation:
        """Continues `context`.

        Args:
            context: all token ids so far, including the part of this action that is already sampled.
            params: how to draw.
            seed: the draw at position p of the action depends on (seed, p) only.
            offset: how many tokens of this action are already sampled (a probe).
            tail: their text, so that a stop string is found across the seam; one that lies wholly in it does not count again.
        """
        ...

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Replaces the weights; generations that follow report `version`."""
        ...

    async def close(self) -> None:
        """Frees what the policy holds; later requests fail, and a second call does nothing."""
        ...


Generate = Callable[..., Awaitable[Generation]]
"""`Policy.generate`, or a method like it."""


def _one_engine() -> Mapping[str, Generate]:
    """Stands for a policy that draws from one engine."""
    return {}


async def _at_once() -> None:
    """Stands for a method that would do nothing."""


SLEEP: members.Member[Callable[[], Awaitable[None]]] = members.Member("sleep", _at_once, method=True)
"""Makes room on the GPU for the learner; the policy's `load` wakes it."""
FORGET: members.Member[Callable[[], Awaitable[None]]] = members.Member("forget", _at_once, method=True)
"""Drops what a policy has cached of earlier contexts, which may affect the last bits of what it computes next."""
DTYPE: members.Member[Any] = members.Member("dtype", None)
"""The torch precision that a policy computes in; None if it does not say."""
AT_ONCE: members.Member[int] = members.Member("at_once", 256)
"""How many requests a policy serves at the same time; further ones wait."""
ENGINES: members.Member[Callable[[], Mapping[str, Generate]]] = members.Member("engines", _one_engine, method=True)
"""Returns the engines that requests are spread over and that hold weights of their own: for each, by name, a `generate` that
asks it alone; none if there is only one."""
MODEL: members.Member[Any] = members.Member("model", None)
"""The model of `transformers` that a policy draws from; None if it is in another process, or of another kind."""


def require_request(
    policy: Policy, context: Sequence[int], params: Sampling, *, longer: str = "make the policy with a longer context_length"
) -> None:
    """Refuses a request that a backend would shorten, crash on, or refuse in its own words.

    Args:
        policy: the one that is to draw.
        context: token ids.
        params: how to draw.
        longer: what to do about a limit that is too low.

    Raises:
        ConfigError: the context is empty, holds ids the model does not have, or leaves no room for `max_tokens` more.
    """
    if not len(context) or params.max_tokens < 1:
        raise ConfigError(
            f"Nothing to do: {len(context)} tokens of context, max_tokens={params.max_tokens}; both must be at least 1."
        )
    if len(context) + params.max_tokens > policy.context_length:
        raise ConfigError(
            f"{len(context)} tokens of context and {params.max_tokens} to draw exceed the limit of "
            f"{policy.context_length}. Draw fewer, or {longer}."
        )
    if min(context) < 0 or max(context) >= policy.vocabulary_size:
        raise ConfigError(
            f"The context holds ids from {min(context)} to {max(context)}, the model has 0 to {policy.vocabulary_size - 1}. "
            "Does the tokenizer belong to the model?"
        )
