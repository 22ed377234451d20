"""The values that nodes hold per token: immutable bytes, and the nodes' views of them."""

import sys
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

Value = TypeVar("Value", int, float, bool)
Array = NDArray[Any]

COLUMNS: dict[str, np.dtype[Any]] = {
    "tokens": np.dtype("<i4"),
    "sampled": np.dtype("?"),
    "logprobs": np.dtype("<f4"),
    "entropies": np.dtype("<f4"),
}
"""What a node holds for each of its tokens, and its type, which is the same on every machine."""

_KINDS = {
    "tokens": ("iu", "integers"),
    "sampled": ("biu", "booleans"),
    "logprobs": ("fiu", "numbers"),
    "entropies": ("fiu", "numbers"),
}
_CODES = {"tokens": "i", "logprobs": "f", "entropies": "f"} if sys.byteorder == "little" else {}
"""Python's own arrays read a short tuple in half the time that NumPy's need."""


class Span(Sequence[Value], Generic[Value]):
    """An immutable sequence of numbers, equal to a tuple of the same numbers.

    Its elements are plain Python numbers; `array`, or `np.asarray`, gives them without a copy. There is no `+`, which on
    arrays would add. `concatenated` joins spans.

    Args:
        held: the bytes that hold the numbers, possibly among others.
        dtype: of the numbers.
        start: where they begin in these bytes, counted in numbers.
        stop: where they end.
        step: 1, or 0 for one value repeated, which takes no room: where nobody drew a token, all log-probabilities are 0.
    """

    __slots__ = ("_dtype", "_held", "_start", "_step", "_stop")

    def __init__(self, held: bytes, dtype: np.dtype[Any], start: int, stop: int, step: int = 1) -> None:
        self._held, self._dtype, self._start, self._stop, self._step = held, dtype, start, stop, step

    @property
    def array(self) -> Array:
        """The numbers as a read-only NumPy array, without a copy."""
        size = self._dtype.itemsize * self._step
        return np.ndarray(self._stop - self._start, self._dtype, self._held, self._start * size, (size,))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers."""
        return self._dtype

    @property
    def packed(self) -> bytes:
        """The numbers as the bytes of `array`; without a copy if `held` contains nothing else."""
        size = self._dtype.itemsize
        return self._held[self._start * size : self._stop * size] if self._step else self._held * len(self)

    @property
    def held(self) -> bytes:
        """The bytes that hold the numbers: those of several nodes, or the one value that is repeated."""
        return self._held

    @property
    def is_one_value(self) -> bool:
        """Whether it takes no room, because all its numbers are equal."""
        return self._step == 0

    @property
    def is_finite(self) -> bool:
        """Whether no number is infinite or NaN."""
        if self._step == 0:
            return not len(self) or _is_finite(self._held, self._dtype)
        return bool(np.isfinite(self.array).all())

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self.array, dtype=dtype, copy=copy) if copy else np.asarray(self.array, dtype=dtype)

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[Value]:
        return iter(self.array.tolist())

    @overload
    def __getitem__(self, index: int) -> Value: ...

    @overload
    def __getitem__(self, index: slice) -> "Span[Value]": ...

    def __getitem__(self, index: int | slice) -> "Value | Span[Value]":
        if not isinstance(index, slice):
            value: Value = self.array[index].item()
            return value
        start, stop, step = index.indices(len(self))
        if step == 1:
            return Span(self._held, self._dtype, self._start + start, self._start + max(start, stop), self._step)
        return _packed(self.array[index].tobytes(), self._dtype)

    def __contains__(self, value: object) -> bool:
        return value in self.array.tolist()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Span):
            return len(self) == len(other) and bool((self.array == other.array).all())
        if isinstance(other, tuple | list):
            return len(self) == len(other) and bool(self.array.tolist() == list(other))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __add__(self, other: object) -> "Span[Value]":
        raise TypeError("Spans have no +. Use algorithms.tree.concatenated(a, b), or tuple(a) + tuple(b).")

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __copy__(self) -> "Span[Value]":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Span[Value]":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self._step == 0:
            return _repeated, (self._held, self._dtype.str, len(self))
        return _sent, (self.packed, self._dtype.str)  # without the other numbers in `held`


def span(values: Sequence[Value], name: str) -> Span[Value]:
    """Returns values as a span; a span of the right type is returned as it is.

    Args:
        values: numbers.
        name: one of `COLUMNS`, which gives the type.

    Raises:
        ValueError: they are not numbers of that kind.
    """
    dtype = COLUMNS[name]
    if isinstance(values, Span) and values._dtype == dtype:
        return values
    if name in _CODES and isinstance(values, tuple | list):
        try:
            return _packed(array(_CODES[name], values).tobytes(), dtype)
        except (TypeError, OverflowError):
            pass  # what is not such a number is refused below
    given = np.asarray(values) if len(values) else np.empty(0, dtype)
    kinds, meant = _KINDS[name]
    if given.ndim != 1 or given.dtype.kind not in kinds:
        raise ValueError(f"{name} must be a sequence of {meant}, got {values!r:.100}.")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which a tree refuses
        own = given.astype(dtype)
    if name == "tokens" and (own != given).any():
        raise ValueError(f"Token ids must fit into 32 bits, got {given.min()} to {given.max()}.")
    return _packed(own.tobytes(), dtype)


def repeated(value: int, count: int, name: str) -> Span[Any]:
    """Returns a span of one value, repeated.

    Args:
        value: the value.
        count: how often.
        name: one of `COLUMNS`, which gives the type.
    """
    return _constant(_bytes_of(value, name), COLUMNS[name], count)


def concatenated(*spans: Sequence[Value]) -> Span[Value]:
    """Returns one span with the numbers of one or more others, all of one type.

    >>> concatenated(span([1, 2], "tokens"), span([3], "tokens"))
    (1, 2, 3)

    Raises:
        TypeError: there are none, they are not all spans, or their types differ.
    """
    own = [one for one in spans if isinstance(one, Span)]
    if not own or len(own) < len(spans) or len({one.dtype for one in own}) > 1:
        raise TypeError("Only spans of numbers of one type can be joined.")
    return _packed(b"".join(one.packed for one in own), own[0].dtype)


def together(spans: Sequence[Span[Any]]) -> list[Span[Any]]:
    """Returns equal spans of one type that share one `bytes` object, so that each takes no more room than its numbers."""
    held = b"".join([one.packed for one in spans if one._step])
    moved: list[Span[Any]] = []
    start = 0
    for one in spans:
        if one._step:
            stop = start + len(one)
            moved.append(Span(held, one._dtype, start, stop))
            start = stop
        else:
            moved.append(one)
    return moved


def _packed(numbers: bytes, dtype: np.dtype[Any]) -> Span[Any]:
    """Returns a span of all the numbers in some bytes."""
    size = dtype.itemsize
    count, first = len(numbers) // size, numbers[:size]
    if numbers == first * count:  # by their bytes: −0 is not 0
        return _constant(first or bytes(size), dtype, count)
    return Span(numbers, dtype, 0, count)


def _sent(numbers: bytes, dtype: str) -> Span[Any]:
    """Rebuilds a pickled span."""
    return _packed(numbers, np.dtype(dtype))


def _repeated(value: bytes, dtype: str, count: int) -> Span[Any]:
    """Rebuilds a pickled span of one repeated value."""
    return _constant(value, np.dtype(dtype), count)


@lru_cache(64)
def _bytes_of(value: int, name: str) -> bytes:
    return np.array(value, COLUMNS[name]).tobytes()


@lru_cache(64)
def _is_finite(value: bytes, dtype: np.dtype[Any]) -> bool:
    return bool(np.isfinite(np.frombuffer(value, dtype)).all())


@lru_cache(4096)  # almost all values are 0, True or False, and an object for each span would take more room than its numbers
def _constant(value: bytes, dtype: np.dtype[Any], count: int) -> Span[Any]:
    return Span(value, dtype, 0, count, 0)
