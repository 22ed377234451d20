"""New weights for an engine, in vLLM's own four steps, and nobody draws with half of them.

An engine holds the whole weights of one version, or it draws nothing: from `start` to `finish` requests wait, and where an
update did not get that far, they are refused until one does.

Source: vLLM 0.32, `docs/training/weight_transfer`.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from arpo_envs import ArpoError, ConfigError


class HalfUpdated(ArpoError):
    """An update of an engine's weights broke off, so nobody may draw from it."""


class WeightSync(Protocol):
    """One way for weights to get to an engine."""

    async def init(self) -> None:
        """Prepares what all updates use: a folder, a connection. Called before the first one."""
        ...

    async def start(self) -> None:
        """Begins an update.

        Raises:
            RuntimeError: the engine is in use; its weights are what they were.
        """
        ...

    async def update(self, weights: Mapping[str, Any]) -> None:
        """Takes the weights there. If it raises anything but what is listed here, nobody knows what the engine holds.

        Args:
            weights: a state dict of the `transformers` model.

        Raises:
            ConfigError: they do not belong to the engine's model; its weights are what they were.
        """
        ...

    async def finish(self, version: int) -> None:
        """Ends the update: what was kept of the old weights is dropped, and the engine draws with the new ones.

        Args:
            version: of the new weights.
        """
        ...


class Delivery:
    """Updates an engine's weights, and keeps its requests away from half of them.

    Args:
        sync: how the weights get there.
    """

    def __init__(self, sync: WeightSync) -> None:
        self._sync = sync
        self._ready = False
        self._broken: int | None = None
        """The version of an update that broke off."""
        self.lock = asyncio.Lock()
        """Held during an update, and by what else must not meet one."""

    async def send(self, weights: Mapping[str, Any], version: int) -> None:
        """Takes all four steps; one that raises leaves an engine that draws nothing until the next update.

        Args:
            weights: a state dict of the `transformers` model.
            version: of them.
        """
        async with self.lock:
            if not self._ready:
                await self._sync.init()
                self._ready = True
            await self._sync.start()
            before, self._broken = self._broken, version
            try:
                await self._sync.update(weights)
            except ConfigError:
                self._broken = before
                raise
            await self._sync.finish(version)
            self._broken = None

    async def whole(self) -> None:
        """Waits for an update that is under way.

        Raises:
            HalfUpdated: the last one broke off.
        """
        async with self.lock:
            pass
        if self._broken is not None:
            raise HalfUpdated(
                f"The update to the weights of step {self._broken} broke off, so the engine may hold a part of them. Load "
                "weights again."
            )


def require_names(weights: Collection[str], there: Collection[str]) -> None:
    """Refuses weights of another model before the first of them arrives.

    Args:
        weights: names of those that are to arrive.
        there: names of those that the engine has.

    Raises:
        ConfigError: they are not the same.

    >>> require_names(["head"], ["head", "norm"])
    Traceback (most recent call last):
        ...
    arpo_envs.errors.ConfigError: These are not this model's weights: norm is missing (1 in all).
    """
    for word, some in (("missing", set(there) - set(weights)), ("not one of its own", set(weights) - set(there))):
        if some:
            raise ConfigError(f"These are not this model's weights: {min(some)} is {word} ({len(some)} in all).")
