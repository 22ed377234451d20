"""Weights on their way to workers: a folder of safetensors that they see too, or arrays in a store of objects.

A weight that is tied to another one is sent once: under its own name there is only the other's name.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

    from ..learner import WeightSource

_TIED = "tied.json"


class Numbers(NamedTuple):
    """A tensor as bytes, which a store shares between processes without copying them.

    Args:
        bytes_N: the numbers, [N] bytes.
        shape: of the tensor.
        dtype: name of its precision in torch.
    """

    bytes_N: np.ndarray[Any, Any]
    shape: tuple[int, ...]
    dtype: str


Published = Path | Mapping[str, Numbers | str]


def write_published(weights: Mapping[str, Any], folder: Path) -> Path:
    """Writes weights into a new folder, and returns it."""
    from ..learner import write_weights

    source = _source(weights)
    folder.mkdir(parents=True)
    write_weights(folder, source)
    (folder / _TIED).write_text(json.dumps(_tied(source)), encoding="utf-8")
    return folder


def as_numbers(weights: Mapping[str, Any]) -> dict[str, Numbers | str]:
    """Returns weights as arrays, which share the memory of tensors that are on the CPU.

    >>> import torch
    >>> weights = {"a": torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16), "b": torch.tensor(3)}
    >>> weights_in(as_numbers(weights))
    {'a': tensor([[1., 2.]], dtype=torch.bfloat16), 'b': tensor(3)}
    """
    import torch

    source = _source(weights)
    found: dict[str, Numbers | str] = dict(_tied(source))
    for name in source:
        if name not in found:
            here = source[name].detach().cpu().contiguous()
            flat = here.reshape(-1).view(torch.uint8).numpy()
            found[name] = Numbers(flat, tuple(here.shape), str(here.dtype).rpartition(".")[2])
    return found


def weights_in(published: Published) -> "dict[str, torch.Tensor]":
    """Returns the weights by name; they may only be read."""
    if isinstance(published, Path):
        from safetensors.torch import load_file

        found = {name: tensor for file in sorted(published.glob("*.safetensors")) for name, tensor in load_file(file).items()}
        tied = json.loads((published / _TIED).read_text(encoding="utf-8"))
    else:
        found = {name: _tensor(one) for name, one in published.items() if isinstance(one, Numbers)}
        tied = {name: other for name, other in published.items() if isinstance(other, str)}
    return found | {name: found[other] for name, other in tied.items()}


def _tensor(numbers: Numbers) -> "torch.Tensor":
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns of memory that may not be written
        flat = torch.from_numpy(numbers.bytes_N)
    return flat.view(getattr(torch, numbers.dtype)).reshape(numbers.shape)


def _source(weights: Mapping[str, Any]) -> "WeightSource":
    from ..learner import WeightSource

    return weights if isinstance(weights, WeightSource) else WeightSource(weights)


def _tied(source: "WeightSource") -> dict[str, str]:
    """Returns for each tied weight the name of the one that is sent."""
    if not source.tied:
        return {}
    sent = {source[name].data_ptr(): name for name in source if name not in source.tied}
    return {name: sent[source[name].data_ptr()] for name in source.tied}
