"""A learner's state on disk: tensors by name, which any number of ranks write together and any other number reads again.

They lie in safetensors files, one per rank, so that reading a stranger's state runs none of their code; PyTorch's other format
for many ranks keeps its metadata as a pickle.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from arpo_envs import ConfigError

from ..durable import as_it_was
from .weights import Described

if TYPE_CHECKING:
    from torch.distributed.checkpoint.storage import StorageWriter


def write(folder: Path, tensors: Mapping[str, torch.Tensor], group: dist.ProcessGroup | None = None) -> None:
    """Writes tensors; where they lie on several ranks, each writes its own part.

    Args:
        folder: to write to; made if it is missing.
        tensors: by name, the same names on every rank.
        group: through which ranks agree; by default the one of all of them.

    Raises:
        OSError: there is no room, or no permission; safetensors raises an error of its own.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    if dist.is_available() and dist.is_initialized():
        with as_it_was():
            save(_apart(tensors), storage_writer=writer, process_group=group)
    else:
        _write_alone(writer, _apart(tensors))


def _write_alone(writer: "StorageWriter", tensors: dict[str, torch.Tensor]) -> None:
    """Does what `save` does for one rank, without its warning: a filter for it would reach other threads."""
    from torch.distributed.checkpoint.default_planner import DefaultSavePlanner

    planner = DefaultSavePlanner()
    writer.reset()
    planner.set_up_planner(tensors, writer.storage_meta(), is_coordinator=True)
    writer.set_up_storage_writer(True)
    plans, metadata = planner.create_global_plan([writer.prepare_local_plan(planner.create_local_plan())])
    plan = planner.finish_plan(writer.prepare_global_plan(plans)[0])
    written = writer.write_data(plan, planner)
    written.wait()
    writer.finish(metadata, [written.value()])


def read(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Reads tensors in place; each rank reads its own part.

    Args:
        folder: from `write`.
        tensors: by name, in the shapes of `describe`.

    Raises:
        ConfigError: some of them are not there, or have another shape.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    stored = describe(folder)
    wrong = [name for name, it in tensors.items() if name not in stored or stored[name].shape != tuple(it.shape)]
    if wrong:
        what = "has another shape" if wrong[0] in stored else "is missing"
        raise ConfigError(f"{folder} is not the state of such a learner: {wrong[0]} {what}. Was it built like this one?")
    with _one_rank_is_no_mistake(), as_it_was():
        load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(folder)))


def describe(folder: Path) -> dict[str, Described]:
    """Returns what was written, without reading it."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    found: Mapping[str, Any] = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: Described(tuple(it.size), it.properties.dtype) for name, it in found.items()}


def moments(scorer: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Returns an optimizer's state by the names of the parameters that it belongs to."""
    name_of: dict[Any, str] = {parameter: name for name, parameter in scorer.named_parameters()}
    return {
        f"optimizer {name_of[parameter]} {field}": value
        for parameter, fields in optimizer.state.items()
        for field, value in fields.items()
    }


def blank(described: Described, parameter: torch.Tensor) -> torch.Tensor:
    """Returns room for a number or for a tensor that belongs to a parameter, and lies where that one does."""
    if described.shape == tuple(parameter.shape):
        return torch.zeros_like(parameter, dtype=described.dtype, requires_grad=False)
    return torch.zeros(described.shape, dtype=described.dtype)


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns tensors none of which shares memory with another, as tied weights do and safetensors refuses."""
    from torch.distributed.tensor import DTensor  # a second of imports, which commands that save nothing do without

    found, seen = {}, set()
    for name, it in tensors.items():
        place = (it.to_local() if isinstance(it, DTensor) else it).untyped_storage().data_ptr()
        found[name] = it.clone() if place in seen else it
        seen.add(place)
    return found


@contextmanager
def _one_rank_is_no_mistake() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is (disabled, )?unavailable or uninitialized, assuming the intent")
        yield
