"""New weights for vLLM's engine by vLLM's own weight transfer, whose sender runs beside the learner.

It takes the steps `init`, `start`, `update` and `finish` itself, over a client that only has to pass them on, and so every
backend with such a sender works the same. For one GPU that engine and learner share, it is CUDA IPC: the engine reads the
weights where the learner has them. The engine needs the option {"weight_transfer_config": {"backend": "ipc"}}, and both
processes the environment variable VLLM_ALLOW_INSECURE_SERIALIZATION=1, as the addresses are pickled on their way.

Source: vLLM 0.32, `vllm/distributed/weight_transfer`.
"""

import asyncio
import base64
import pickle
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from typing import Any

from .export import is_tied, model_config, untied
from .vllm import ThroughFolder, VLLMPolicy

_SECONDS = 300.0
"""That one step may take, as in vLLM's own client."""


def through_ipc(policy: VLLMPolicy) -> "ThroughTransfer":
    """Returns the way for weights that lie on the engine's own GPU; it follows vLLM's code, and was not run for lack of a GPU.

    Args:
        policy: of an engine whose backend is "ipc".
    """

    def info() -> Any:
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        return IPCTrainerInitInfo(rank=0, packed=True)

    return ThroughTransfer(policy, info)


class ThroughTransfer(ThroughFolder):
    """Takes weights to vLLM by its own transfer.

    Args:
        policy: of the engine, whose `weight_transfer_config` names the backend.
        info: returns what the backend's sender is made from, a `TrainerInitInfo` of vLLM.
    """

    def __init__(self, policy: VLLMPolicy, info: Callable[[], Any]) -> None:
        super().__init__(policy)
        self._info = info
        self._source = _Source()
        self._sender: Any = None

    async def init(self) -> None:
        """Makes the sender, which connects itself to the engine."""
        from vllm.distributed.weight_transfer import WeightTransferTrainerFactory

        client = _Client(self.policy.engine, asyncio.get_running_loop())
        made = {"client": client, "source": self._source}
        self._sender = await asyncio.to_thread(WeightTransferTrainerFactory.trainer_init, self._info(), **made)

    async def update(self, weights: Mapping[str, Any]) -> None:
        """Sends the weights.

        Raises:
            ConfigError: they are tied, and their embedding is not found; the engine's are what they were.
        """
        self._source.dtype = self.policy.dtype
        self._source.weights = untied(dict(weights), tied=is_tied(model_config(self.policy.folder)))
        # Its buffer must hold the largest weight; the default of 1 GiB is less than a large vocabulary's embedding.
        buffer = getattr(self._sender, "packed_buffer_size_bytes", 0)
        self._sender.packed_buffer_size_bytes = max(buffer, self._source.largest())
        try:
            await self.wake("weights")
            await asyncio.to_thread(self._sender.send_weights)
        except Exception:
            with suppress(Exception):  # vLLM begins no other update before one that has begun is finished
                await self.policy.engine.finish_weight_update(None)
            raise
        finally:
            self._source.weights = {}


class _Source:
    """Weights in the engine's precision, one by one: what vLLM's sender iterates over."""

    weights: Mapping[str, Any]
    dtype: Any

    def __init__(self) -> None:
        self.weights = {}

    def largest(self) -> int:
        """Returns how many bytes the largest weight takes."""
        return max((tensor.numel() * self.dtype.itemsize for tensor in self.weights.values()), default=0)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Yields names and tensors."""
        for name, tensor in self.weights.items():
            yield name, tensor.detach().to(self.dtype)


class _Client:
    """Passes the sender's steps on to the engine, from the sender's thread.

    Args:
        engine: vLLM's `AsyncLLM`.
        loop: in which it runs.
    """

    def __init__(self, engine: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._engine, self._loop = engine, loop

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Passes on what the engine's side has to know."""
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        self._done(self._engine.init_weight_transfer_engine(WeightTransferInitRequest(init_info)))

    def start_weight_update(self) -> None:
        """Begins an update."""
        self._done(self._engine.start_weight_update())

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Passes on where some of the weights are."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        info = dict(update_info)
        if (handles := info.pop("ipc_handles", None)) is not None:  # they hold types, which no message can
            info["ipc_handles_pickled"] = base64.b64encode(pickle.dumps(handles)).decode("ascii")
        self._done(self._engine.update_weights(WeightTransferUpdateRequest(info)))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Ends an update."""
        self._done(self._engine.finish_weight_update(weight_version))

    def _done(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(_SECONDS)
