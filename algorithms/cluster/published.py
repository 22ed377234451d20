"""Weights on their way to workers: a folder of safetensors that they see too, or arrays in a store of objects.

A weight that is tied to another one is sent once: under its own name there is only the other's name.
"""

import json
import os
import shutil
import warnings
import weakref
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import torch

    from ..learner import WeightSource

_TIED = "tied.json"


class Numbers(NamedTuple):
    """A tensor as bytes, which a store shares between processes without copying them.

    Args:
        bytes_I: the numbers, [I] bytes.
        shape: of the tensor.
        dtype: name of its precision in torch.
    """

    bytes_I: np.ndarray[Any, Any]
    shape: tuple[int, ...]
    dtype: str


Published = Path | Mapping[str, Numbers | str]


@runtime_checkable
class Elsewhere(Protocol):
    """Weights that this process need not hold: they lie in other processes, which can write them themselves, or in files."""

    def write(self, folder: Path) -> None:
        """Writes them as `write_published` does, wherever they are."""
        ...

    def kept(self) -> "StoredWeights":
        """Returns the weights as they are now, in files."""
        ...


class ReadWhenAsked(Mapping[str, Any]):
    """Weights that are read into this process only when one of them is asked for; then all are."""

    def _read(self) -> Mapping[str, Any]:
        raise NotImplementedError

    @cached_property
    def _here(self) -> Mapping[str, Any]:
        return self._read()

    def __getitem__(self, name: str) -> Any:
        """Returns a weight, whole."""
        return self._here[name]

    def __iter__(self) -> Iterator[str]:
        """Yields the names."""
        return iter(self._here)

    def __len__(self) -> int:
        """Returns how many weights there are."""
        return len(self._here)


class StoredWeights(ReadWhenAsked):
    """Weights that `write_published` wrote.

    Args:
        folder: where they are; it must exist for as long as this object is used.
        ours: whether the folder is removed as soon as nobody has this object any more: a step that is under way and a
            checkpoint that is being written may both need it.
    """

    def __init__(self, folder: Path, *, ours: bool = False) -> None:
        self._folder = folder
        if ours:
            # not at the end of the process, of which there may be forks: the folder lies where leftovers are removed
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True).atexit = False

    def write(self, folder: Path) -> None:
        """Links the files into a new folder; see `linked`."""
        linked(self._folder, folder)

    def kept(self) -> "StoredWeights":
        """Returns itself: files are not changed."""
        return self

    def read(self) -> "WeightSource":
        """Returns the weights in memory, as they were before they were written: engines need not see the files."""
        from ..learner import WeightSource

        return WeightSource(self._here, tied=json.loads((self._folder / _TIED).read_text(encoding="utf-8")))

    def _read(self) -> Mapping[str, Any]:
        return weights_in(self._folder)


def write_published(weights: Mapping[str, Any], folder: Path, *, writes: bool = True) -> Path:
    """Writes weights into a new folder, and returns it.

    Args:
        weights: where they lie on several ranks, each of these calls this function.
        folder: is empty, or does not exist.
        writes: whether this rank is the one that writes.
    """
    from ..learner import write_weights

    if isinstance(weights, Elsewhere):
        weights.write(folder)
        return folder
    source = _source(weights)
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder, source, writes=writes)
    if writes:
        (folder / _TIED).write_text(json.dumps(source.sharing()), encoding="utf-8")
    return folder


def linked(source: Path, folder: Path) -> None:
    """Gives files that are never changed, only removed, a second name in another folder; copies them where that cannot be.

    Args:
        source: folder with nothing but files.
        folder: is empty, or does not exist.

    Raises:
        FileNotFoundError: they are gone.
        OSError: there is no room for a copy, or no permission.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        try:
            os.link(file, folder / file.name)
        except OSError:  # another file system, or one without links
            shutil.copyfile(file, folder / file.name)


def as_numbers(weights: Mapping[str, Any]) -> dict[str, Numbers | str]:
    """Returns weights as arrays, which share the memory of tensors that are on the CPU.

    >>> import torch
    >>> weights = {"a": torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16), "b": torch.tensor(3)}
    >>> weights_in(as_numbers(weights))
    {'a': tensor([[1., 2.]], dtype=torch.bfloat16), 'b': tensor(3)}
    """
    import torch

    source = _source(weights)
    found: dict[str, Numbers | str] = dict(source.sharing())
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
        flat = torch.from_numpy(numbers.bytes_I)
    return flat.view(getattr(torch, numbers.dtype)).reshape(numbers.shape)


def _source(weights: Mapping[str, Any]) -> "WeightSource":
    from ..learner import WeightSource

    return weights if isinstance(weights, WeightSource) else WeightSource(weights)
