"""A client of servers to which another process, the leader, gives weights: this one draws from them.

It writes no weights. If a replica comes back without the newest ones, this client has it read them where the leader wrote them.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from arpo_envs import ArpoError

from .built_in import KEY
from .delivered import Delivered
from .dispatch import Lost
from .openai import OpenAIPolicy
from .replicas import Replica
from .served import Served

_CONCURRENCY = 64
"""Requests that a replica gets at once from all clients together: as many as `OpenAIPolicy` alone sends."""


@dataclass(frozen=True)
class Following:
    """Says how to make a client in another process. See `OpenAIPolicy` for what is not described here.

    Args:
        served: what the servers told the leader; they need not be up when a client is made.
        vocabulary_size: V.
        context_length: in tokens.
        strict: whether log-probabilities must be those it draws with.
        top_logprobs: k.
        concurrency: requests that each replica gets from this client at once.
        update_timeout: seconds in which a replica has to take the weights of an update that it has missed.
    """

    served: Served
    vocabulary_size: int
    context_length: int
    strict: bool
    top_logprobs: int
    concurrency: int
    update_timeout: float

    @classmethod
    def of(cls, leader: OpenAIPolicy, clients: int) -> "Following":
        """Returns the description of each of several clients of the leader's servers."""
        each = -(-_CONCURRENCY // clients)
        told = (leader.served, leader.vocabulary_size, leader.context_length, leader.strict, leader.top_logprobs)
        return cls(*told, each, leader.update_timeout)

    def make(self, tokenizer: Any) -> "FollowingPolicy":
        """Returns the client; `ARPO_API_KEY` has to be set in its process if the servers want a key."""
        own = {name: value for name, value in vars(self).items() if name != "served"}
        return FollowingPolicy(self.served, tokenizer, api_key=os.environ.get(KEY), **own)


class FollowingPolicy(OpenAIPolicy):
    """Draws from servers whose weights the leader replaces."""

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Notes which weights the servers have; one that is behind gets them before it is used.

        Args:
            weights: the leader's `delivered`.
            version: of them.
        """
        assert isinstance(weights, Delivered), "only the leader has weights"
        self._exported, self.version = weights.folder, version
        overtaken = {replica.url for replica in self._replicas.all if replica.examination.locked()}
        for replica in self._replicas.all:
            if replica.url in overtaken and replica.url in weights.behind:
                replica.suspect = True  # until the examination under way has given it these weights; nobody waits for that
            elif replica.url in overtaken:
                await self._brought_anew(replica)
            else:
                replica.recover()
                replica.suspect = replica.url in weights.behind

    async def _brought_anew(self, replica: Replica) -> None:
        """Sees to a replica that the leader gave the newest weights while this client may have been giving it older ones."""
        async with replica.examination:  # which then gives it these as well, unless it fails
            if not replica.suspect:
                return
            replica.recover()  # at once, however often it failed before
            replica.suspect = True
        with suppress(ArpoError):  # before any client draws
            await self._dispatcher.revive(replica)

    async def close(self) -> None:
        """Ends the requests in progress, which fail; the weights are the leader's, and stay."""
        self._exported = None
        await super().close()

    async def _examine(self, replica: Replica) -> None:
        """Checks a replica; see `OpenAIPolicy`. A client that missed an update must not bring older weights back."""
        if self._exported is not None and not self._exported.is_dir():
            raise Lost(f"{self._exported} is gone: either newer weights were given to the servers, or it cannot be seen here.")
        await super()._examine(replica)
