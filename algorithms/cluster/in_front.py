"""Engines in front of servers: environments and tools run in the engines, and what they draw comes from the servers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..policies import ENGINES, Generate, Generation, Policy, Sampling
from ..policies.delivered import Delivered
from .engines import Engine, Engines
from .policy import ClusterPolicy


class ServedPolicy(ClusterPolicy):
    """Stands for engines that are all clients of the same servers; see `ClusterPolicy`.

    The servers get new weights once, from this process; engines are told so. What is asked of the policy itself, such as
    whether weights arrived, is asked of the servers.

    Args:
        fleet: the engines.
        server: the client in this process, which gives the servers their weights.
        delivered: returns which weights the servers have.
    """

    def __init__(self, fleet: Engines, server: Policy, delivered: Callable[[], Delivered]) -> None:
        super().__init__(fleet)
        self.server, self._delivered = server, delivered

    async def generate(
        self,
        context: Sequence[int],
        params: Sampling,
        *,
        seed: int,
        offset: int = 0,
        tail: str = "",
        only: Engine | None = None,
    ) -> Generation:
        """Has the servers continue `context`, whatever happens to the engines."""
        return await self.server.generate(context, params, seed=seed, offset=offset, tail=tail)

    def engines(self) -> Mapping[str, Generate]:
        """Returns the replicas that can be reached: they hold the weights."""
        return ENGINES.of(self.server)()

    async def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Gives the servers new weights, and tells the engines."""
        await self.server.load(weights, version)
        await super().load(self._delivered(), version)

    async def close(self) -> None:
        """Ends the engines, and then the client in this process, which removes the weights on their way."""
        try:
            await super().close()
        finally:
            await self.server.close()
