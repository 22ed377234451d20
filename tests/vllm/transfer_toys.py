"""vLLM's weight transfer on a CPU: its IPC backend, except that tensors travel through a file instead of a GPU's memory."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from vllm.distributed.weight_transfer import WeightTransferEngineFactory, WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.ipc_engine import (
    IPCTrainerInitInfo,
    IPCTrainerWeightTransferEngine,
    IPCWeightTransferEngine,
)

BACKEND = "file"


class Receiver(IPCWeightTransferEngine):
    """The engine's side, whose updates begin and end as those by IPC."""

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: Any) -> None:
        self.model.load_weights(torch.load(*update_info.ipc_handles["file"]))


@dataclass
class Info(IPCTrainerInitInfo):
    """What a sender is made from."""

    backend: ClassVar[str] = BACKEND


class Sender(IPCTrainerWeightTransferEngine):
    """The learner's side."""

    init_info_cls = Info

    def __init__(self, *, client: Any, source: Any, is_sender: bool = True, packed: bool = False, **_: Any) -> None:
        super(IPCTrainerWeightTransferEngine, self).__init__(client=client, source=source, is_sender=is_sender)
        self.packed = packed

    def _send(self, source: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            weights, path = list(source), Path(folder) / "weights"
            torch.save(weights, path)
            names, tensors = zip(*weights, strict=True)
            dtypes = [str(tensor.dtype).removeprefix("torch.") for tensor in tensors]
            shapes = [list(tensor.shape) for tensor in tensors]
            self._do_send(list(names), dtypes, shapes, {"file": (path,)}, [tensor.nbytes for tensor in tensors])

    @staticmethod
    def _post_send_sync() -> None: ...


class Extension:
    """Makes the engine's process import this file."""


WeightTransferEngineFactory.register_engine(BACKEND, Receiver)
WeightTransferTrainerFactory.register_engine(BACKEND, Sender)
