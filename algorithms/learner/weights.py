"""A model's weights on their way to a policy: one whole tensor at a time, however many ranks hold parts of it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch


class Described(NamedTuple):
    """What is known of a weight before it is there.

    Args:
        shape: of the whole.
        dtype: of its numbers.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype


class WeightSource(Mapping[str, torch.Tensor]):
    """A state dict of a `transformers` model whose tensors are put together when they are asked for, and not kept.

    Where a model lies on several ranks, all of them have to ask, in the same order: each then gets the whole tensor.

    Args:
        tensors: by name, or each rank's part of them.
        deltas: what has to be added to some of them, by name: adapters.

    >>> source = WeightSource({"weight": torch.ones(2)}, {"weight": lambda: torch.tensor([1.0, 2.0])})
    >>> source.metadata()
    {'weight': Described(shape=(2,), dtype=torch.float32)}
    >>> list(source.items())
    [('weight', tensor([2., 3.]))]
    """

    def __init__(
        self, tensors: Mapping[str, torch.Tensor], deltas: Mapping[str, Callable[[], torch.Tensor]] | None = None
    ) -> None:
        self._tensors, self._deltas = tensors, deltas or {}

    def metadata(self) -> dict[str, Described]:
        """Returns shape and precision of each weight, in the order of iteration; nothing is computed for it."""
        return {name: Described(tuple(tensor.shape), tensor.dtype) for name, tensor in self._tensors.items()}

    def __getitem__(self, name: str) -> torch.Tensor:
        """Returns a weight, whole."""
        tensor: Any = self._tensors[name]
        if name in self._deltas:
            with torch.no_grad():
                tensor = tensor + self._deltas[name]().to(tensor.dtype)
        return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor

    def __iter__(self) -> Iterator[str]:
        """Yields the names."""
        return iter(self._tensors)

    def __len__(self) -> int:
        """Returns how many weights there are."""
        return len(self._tensors)
