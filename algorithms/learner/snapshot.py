"""What a learner has learned at one moment, copied, so that it can be written while the learner goes on.

The copies lie in the memory of the CPU: the weights and the optimizer's state, as large as these are. They are written by
`torch.distributed.checkpoint.save` in a thread, which is also what its `async_save` does; but that one knows of its own files
only, and a checkpoint is whole when the model's folder and the manifest are there, too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch.distributed.device_mesh import DeviceMesh

from . import state
from .on_ranks import OnRanks
from .weights import WeightSource


class Snapshot:
    """What a learner in one process has learned; `checkpoint.save` takes it as model and as learner.

    It is a context manager, at whose end the memory is free again.

    Args:
        model: of the learner; its weights are not used.
        weights: copies of them.
        kept: copies of everything else, by name.
    """

    def __init__(self, model: Any, weights: WeightSource, kept: Mapping[str, torch.Tensor]) -> None:
        self.model, self._weights, self._kept = model, weights, dict(kept)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Forgets the copies."""
        self._weights, self._kept = WeightSource({}), {}

    def save_pretrained(self, folder: Path) -> None:
        """Writes the model as its own `save_pretrained` does."""
        self.model.save_pretrained(folder, state_dict=dict(self._weights))

    def save(self, folder: Path) -> None:
        """Writes all but the weights; see `TorchLearner.save`."""
        state.write(folder, self._kept)


class ShardedSnapshot(OnRanks, Snapshot):
    """The same of a model that lies on ranks, of which each has copied its part; see `checkpoint.save_together`.

    Args:
        model: as for `Snapshot`.
        weights: as for `Snapshot`.
        kept: as for `Snapshot`.
        mesh: of the ranks, on the CPU, in a process group that nothing else uses meanwhile.
    """

    def __init__(self, model: Any, weights: WeightSource, kept: Mapping[str, torch.Tensor], *, mesh: DeviceMesh) -> None:
        super().__init__(model, weights, kept)
        self._mesh = mesh

    def save_pretrained(self, folder: Path) -> None:
        """Writes the model; see `ShardedLearner.save_pretrained`."""
        self._write_model(folder, self.model, self._weights)

    def save(self, folder: Path) -> None:
        """Writes all but the weights, each rank its part."""
        state.write(folder, self._kept, self._mesh.get_group())


def on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a copy in the memory of the CPU."""
    return tensor.detach().to("cpu", copy=True)
