"""What ranks do alike: all of them, or the first one for all, and what goes wrong on one is raised on all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from .weights import WeightSource, write_weights

T = TypeVar("T")


class OnRanks:
    """Holds one rank's part of something; all methods are called on all ranks."""

    _mesh: DeviceMesh

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that does what only one may do."""
        return self._mesh.get_local_rank() == 0

    def agree(self, error: Exception | None) -> None:
        """Raises on every rank what went wrong on one of them, if anything did."""
        for one in self._gathered(error):
            if one is not None:
                raise one

    def together(self, work: Callable[[], Any], *, only_first: bool = False) -> None:
        """Does something on all ranks or on the first one only, and raises on all of them what goes wrong on one."""
        error: Exception | None = None
        try:
            if self.is_first or not only_first:
                work()
        except Exception as trouble:  # noqa: BLE001  # the other ranks wait for this one
            error = trouble
        self.agree(error)

    def of_first(self, found: T) -> T:
        """Returns on all ranks what the first one has found."""
        return self._gathered(found)[0]

    def _write_model(self, folder: Path, model: Any, weights: WeightSource) -> None:
        """Writes a model as the part of a Hugging Face folder that a model's own `save_pretrained` writes.

        Args:
            folder: to write to; may be missing.
            model: its weights are not used.
            weights: of the model.

        Raises:
            OSError: there is no room, or no permission; on every rank. safetensors raises an error of its own.
        """

        def describe() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            model.config.save_pretrained(folder)
            if model.can_generate():
                model.generation_config.save_pretrained(folder)

        self.together(describe, only_first=True)
        self.together(lambda: write_weights(folder, weights, writes=self.is_first))

    def _gathered(self, found: T) -> list[T]:
        """Returns what every rank found."""
        everyones: list[Any] = [None] * self._mesh.size()
        dist.all_gather_object(everyones, found, group=self._mesh.get_group())
        return everyones
