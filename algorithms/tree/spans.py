"""Numbers of nodes as arrays: a tree's growing buffers, and the views of them that its nodes hold."""

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
"""What a node holds for each of its tokens, and how: numbers of an array, the same on every machine."""

_KINDS = {
    "tokens": ("iu", "integers"),
    "sampled": ("biu", "truths"),
    "logprobs": ("fiu", "numbers"),
    "entropies": ("fiu", "numbers"),
}
_LARGEST = 2**31 - 1
_SMALLEST = 64


class Buffer:
    """An array that grows at its end; what was once written never changes.

    Args:
        dtype: of its numbers.
    """

    __slots__ = ("_array", "_used")

    def __init__(self, dtype: DTypeLike) -> None:
        self._array: Array = np.empty(0, dtype)
        self._used = 0

    @classmethod
    def of(cls, array: Array) -> "Buffer":
        """Returns a buffer that is full of the numbers of an array, which nobody else may write to."""
        buffer = cls(array.dtype)
        array.flags.writeable = False
        buffer._array, buffer._used = array, len(array)
        return buffer

    @property
    def nbytes(self) -> int:
        """Bytes that it occupies, room to grow included."""
        return self._array.nbytes

    def add(self, values: Array) -> tuple[int, int]:
        """Appends numbers and returns where they lie, from and to."""
        start, stop = self._used, self._used + len(values)
        if stop > len(self._array):
            self._resize(max(stop, _SMALLEST, len(self._array) * 5 // 4))
        self._array.flags.writeable = True  # for us alone: who has a view of an array that is not cannot make it so
        self._array[start:stop] = values
        self._array.flags.writeable = False
        self._used = stop
        return start, stop

    def trim(self) -> None:
        """Gives back the room to grow; whoever adds more takes new room."""
        if self._used < len(self._array):
            self._resize(self._used)

    def view(self, start: int, stop: int) -> Array:
        """Returns some of its numbers, without a copy and not to be written to."""
        return self._array[start:stop]

    def _resize(self, size: int) -> None:
        array = np.empty(size, self._array.dtype)
        array[: self._used] = self._array[: self._used]  # whoever has a view of the old one keeps that
        array.flags.writeable = False
        self._array = array


class Constant:
    """Any number of times one value, which takes no room: where nobody drew a token all log-probabilities are 0.

    Args:
        value: [1], which; nobody else may write to it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Array) -> None:
        self._value = value

    @property
    def nbytes(self) -> int:
        """Bytes that it occupies."""
        return self._value.nbytes

    def view(self, start: int, stop: int) -> Array:
        """Returns the value as often as asked for, without a copy and not to be written to."""
        return np.broadcast_to(self._value, max(0, stop - start))


class Span(Sequence[Value], Generic[Value]):
    """Some numbers of a buffer in a row: a sequence that cannot be changed, equal to a tuple of the same numbers.

    Its elements and those it yields are Python's own numbers; `array`, or `np.asarray`, has them without a copy. There is
    no `+`: of arrays it would be an addition. `concatenated` joins spans.

    Args:
        source: what holds them.
        start: where they begin there.
        stop: where they end.
    """

    __slots__ = ("_source", "_start", "_stop")

    def __init__(self, source: Buffer | Constant, start: int, stop: int) -> None:
        self._source, self._start, self._stop = source, start, stop

    @property
    def array(self) -> Array:
        """The numbers as a NumPy array, not to be written to."""
        return self._source.view(self._start, self._stop)

    @property
    def source(self) -> Buffer | Constant:
        """What holds the numbers."""
        return self._source

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
            return Span(self._source, self._start + start, self._start + max(start, stop))
        return _fresh(self.array[index])

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
        raise TypeError("The numbers of nodes have no +. Use algorithms.tree.concatenated(a, b), or tuple(a) + tuple(b).")

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __copy__(self) -> "Span[Value]":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Span[Value]":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self._source, Constant):
            one = self._source.view(0, 1)
            return _repeated, (one.tobytes(), one.dtype.str, len(self))
        return _fresh, (self.array.copy(),)  # without what else is in the buffer


def span(values: Sequence[Value], name: str) -> Span[Value]:
    """Returns values as a span of their own; a span stays what it is.

    Args:
        values: numbers.
        name: of the column of a node that they are, which says of what type they become.

    Raises:
        ValueError: they are no such numbers.
    """
    if isinstance(values, Span) and values.array.dtype == COLUMNS[name]:
        return values
    array = np.asarray(values) if len(values) else np.empty(0, COLUMNS[name])
    kinds, meant = _KINDS[name]
    if array.ndim != 1 or array.dtype.kind not in kinds:
        raise ValueError(f"{name} must be a sequence of {meant}, got {values!r:.100}.")
    if name == "tokens" and len(array) and not -_LARGEST <= array.min() <= array.max() <= _LARGEST:
        raise ValueError(f"Token ids have 32 bits, got {array.min()} to {array.max()}.")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which a tree refuses
        return _fresh(array.astype(COLUMNS[name]))


def moved(values: Span[Value], buffer: Buffer) -> Span[Value]:
    """Returns a span with the same numbers, held by a buffer; one of a single value stays what it is."""
    if isinstance(values.source, Constant):
        return values
    return Span(buffer, *buffer.add(values.array))


def concatenated(*spans: Sequence[Value]) -> Span[Value]:
    """Returns the numbers of spans one after another; at least one must be a span and all of its type.

    >>> concatenated(span([1, 2], "tokens"), span([3], "tokens"))
    (1, 2, 3)

    Raises:
        TypeError: they are not all spans of numbers of one type.
    """
    arrays = [one.array for one in spans if isinstance(one, Span)]
    if not arrays or len(arrays) < len(spans) or len({array.dtype for array in arrays}) > 1:
        raise TypeError("Only spans of numbers of one type can be joined.")
    return _fresh(np.concatenate(arrays))


def _fresh(array: Array) -> Span[Any]:
    """Returns a span of an array that nobody else has."""
    if array.tobytes() != array[:1].tobytes() * len(array):  # by their bytes: −0 is not 0
        return Span(Buffer.of(array), 0, len(array))
    value = array[:1] if len(array) else np.zeros(1, array.dtype)
    return Span(_constant(value.tobytes(), array.dtype), 0, len(array))


def _repeated(value: bytes, dtype: str, count: int) -> Span[Any]:
    """Returns a span of one value."""
    return Span(_constant(value, np.dtype(dtype)), 0, count)


@lru_cache(64)  # almost all are of 0, True and False: an object of its own for each would take more than its numbers
def _constant(value: bytes, dtype: np.dtype[Any]) -> Constant:
    return Constant(np.frombuffer(value, dtype))
