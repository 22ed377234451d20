"""The learner on several ranks: each holds a part of every weight (FSDP2) and computes some of the trees.

Every rank runs the same program with the same trees. What depends on the whole batch, such as denominators and who computes
which tree, every rank finds out by itself; only gradients and small results (metrics, log-probabilities) are exchanged.

A block's weights are gathered when it runs, and by all ranks at once. So all ranks take the same number of micro-batches:
who has fewer adds some without any path (`Packer.share`). Gradients are summed and scattered after every micro-batch rather
than at the end, for which each rank would have to hold a whole gradient; they are not averaged, since the loss is already
divided by the denominator of the whole batch.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from arpo_envs import ConfigError

from ..models.own import OwnModel
from ..models.sharded_loading import is_skeleton, load_into
from ..packing import PackedBatch, Row, Scorer
from ..tree import RolloutTree
from .adapters import base_name
from .configuration import LearnerConfig
from .model_changes import blocks
from .on_ranks import OnRanks
from .snapshot import ShardedSnapshot, on_cpu
from .step_size import require_step
from .torch_learner import TorchLearner


@contextmanager
def ranks(device: str = "cpu", **where: Any) -> Iterator[DeviceMesh]:
    """Joins the other ranks for as long as the context lasts, and returns the mesh of all of them, of one dimension.

    Args:
        device: cpu or cuda; each rank of a machine uses its own GPU.
        where: how they find each other, as for `torch.distributed.init_process_group`; by default torchrun has told them.
    """
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", **where)
    try:
        # without a mesh, torch would shard to a GPU wherever it sees one
        yield init_device_mesh(device, (dist.get_world_size(),), mesh_dim_names=("rank",))
    finally:
        dist.destroy_process_group()


class ShardedLearner(OnRanks, TorchLearner):
    """Trains a model that lies on several ranks; on each, all methods are called alike, and return the same.

    Memory: apart from its own part of everything, a rank holds at any time one or two blocks of the model and what is
    outside all blocks (embedding and head, which may be the same).

    Args:
        model: the same on every rank, or a `skeleton`, whose weights are read from `folder`; only with a skeleton no rank ever
            holds the whole model.
        config: as for `TorchLearner`.
        mesh: of one dimension, see `ranks`.
        folder: where the weights of a skeleton are.
        temperature: as for `TorchLearner`.
        reference: as for `TorchLearner`; the copy is sharded as well.
        values: as for `TorchLearner`.
        seed: as for `TorchLearner`.

    Raises:
        ConfigError: the model cannot be trained like this, or not on several ranks.
    """

    def __init__(
        self,
        model: Any,
        config: LearnerConfig = LearnerConfig(),
        *,
        mesh: DeviceMesh,
        folder: Path | None = None,
        temperature: float = 1.0,
        reference: bool = False,
        values: bool = False,
        seed: int = 0,
    ) -> None:
        if mesh.ndim != 1:
            raise ConfigError(f"The ranks of a learner form a mesh of one dimension, got {mesh.ndim}.")
        if is_skeleton(model) and folder is None:
            raise ConfigError("This model has no weights yet: say in which folder they are.")
        self._mesh, self._folder = mesh, folder
        device = torch.device(mesh.device_type)
        options: dict[str, Any] = {"temperature": temperature, "reference": reference, "values": values, "seed": seed}
        super().__init__(model, config, device=device, **options)
        self.own = OwnModel(self.model, self._gathered_ends)

    def save_pretrained(self, folder: Path) -> None:
        """Writes the model as the part of a Hugging Face folder that a model's own `save_pretrained` writes.

        Args:
            folder: to write to; may be missing.

        Raises:
            OSError: there is no room, or no permission; on every rank. safetensors raises an error of its own.
        """
        self._write_model(folder, self.model, self.weights())

    def snapshot(self) -> ShardedSnapshot:
        """Returns a copy of all there is to save, each rank of its part; see `TorchLearner.snapshot`."""
        mesh = self._mesh_for_saving

        def copy(tensor: torch.Tensor) -> torch.Tensor:
            if not isinstance(tensor, DTensor):
                return on_cpu(tensor)
            where: dict[str, Any] = {"shape": tensor.shape, "stride": tensor.stride(), "run_check": False}
            return DTensor.from_local(on_cpu(tensor.to_local()), mesh, tensor.placements, **where)

        return ShardedSnapshot(self.model, *self._copied(copy), mesh=mesh)

    @cached_property
    def _mesh_for_saving(self) -> DeviceMesh:
        """The same ranks on CPUs, in a group of their own: what they exchange while they save must not meet what they learn."""
        everyone = dist.get_process_group_ranks(self._mesh.get_group())
        return DeviceMesh.from_group(dist.new_group(everyone, backend="gloo"), "cpu", mesh_dim_names=("rank",))

    def _on_device(self, model: Any) -> Any:
        """Leaves a model where it is: each block is moved when it is sharded."""
        return model

    def _made_to_run(self, scorer: Scorer) -> Scorer:
        """Shards a scorer, block by block, and reads the weights of a skeleton."""
        own = list(blocks(scorer.model))
        if not own:
            kind = scorer.model.config.model_type
            raise ConfigError(f"{kind} has no blocks that transformers names, so it cannot be sharded. Train it on one rank.")
        without_weights = is_skeleton(scorer.model)
        for part in (*own, scorer.value_head, scorer):  # its head may be in another precision; embedding and head come last
            if part is not None:
                sharded = fully_shard(part, mesh=self._mesh, reshard_after_forward=True)
                sharded.set_gradient_divide_factor(1.0)
                sharded.set_force_sum_reduction_for_comms(True)  # gloo knows no other sum with a factor
        if without_weights:
            assert self._folder is not None
            load_into(scorer, self._folder, self.device, base_name)
        self._run_once(scorer)
        return scorer

    @torch.no_grad()
    def _run_once(self, scorer: Scorer) -> None:
        """Runs a scorer as a whole for the first time, which tells FSDP what belongs together."""
        ids_12 = torch.zeros(1, 2, dtype=torch.long, device=self.device)
        first = (torch.zeros(1, dtype=torch.long, device=self.device),) * 2
        scorer(first, ids_12[0, :1], 1.0, entropies=False, values=False, input_ids=ids_12, use_cache=False)

    @contextmanager
    def _gathered_ends(self) -> Iterator[None]:
        """Gathers what is outside all blocks, so that the model can be used without the scorer."""
        scorer: Any = self._scorer
        scorer.unshard()
        try:
            yield
        finally:
            scorer.reshard()

    def _require_step(self) -> None:
        """Lets every rank check its part of the weights."""
        require_step([_local(weight) for weight in self._trained], self.config.learning_rate, self._gathered)

    def _micro_batches(
        self, trees: Sequence[RolloutTree], rows: Sequence[Row], wanted: Sequence[int]
    ) -> Iterator[tuple[PackedBatch, list[int]]]:
        """Yields this rank's micro-batches; see `Packer.share`."""
        return self._packer.share(trees, rows, wanted, self._mesh.get_local_rank(), self._mesh.size())

    def _load_older(self, found: Mapping[str, Any]) -> None:
        """Refuses what earlier versions stored: every rank would have to read all of it."""
        raise ConfigError("This state was stored by an earlier version. Resume it on one rank, which saves it anew.")

    def _clipped(self) -> float:
        """Clips the gradient of which each rank has a part, and returns the norm of the whole."""
        norm: Any = torch.nn.utils.clip_grad_norm_(self._trained, self.config.gradient_clip)
        return float(norm.full_tensor())


def _local(weight: torch.Tensor) -> torch.Tensor:
    return weight.to_local() if isinstance(weight, DTensor) else weight
