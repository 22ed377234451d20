"""The largest inner products, exactly: whichever library multiplies, in whatever order it adds.

Products in 32 bits, which are quick, only say which documents are near the best: all those that rounding could have hidden
among them. Of these the products are computed again in 64 bits, one document like another, so that equal vectors have equal
products; those rank, and the documents' order decides between equals.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, unknown_name

Vectors = NDArray[np.float32]
_NUMBERS = 1 << 22
"""Numbers of a block of vectors, of which the products are computed at once."""
_SPARE = 16
"""Documents that are asked for beyond those wanted, as rounding may have hidden one."""


def blocks(matrix: Vectors) -> Sequence[slice]:
    """Returns slices of rows, each of which fits into memory, also in 64 bits."""
    rows = max(1, _NUMBERS // matrix.shape[1])
    return [slice(start, min(start + rows, len(matrix))) for start in range(0, len(matrix), rows)]


def longest(matrix: Vectors) -> float:
    """Returns the length of the longest row, block by block; NaN or infinity if one of them is."""
    found = [np.square(matrix[block], dtype=np.float64).sum(axis=1).max() for block in blocks(matrix)]
    return float(np.sqrt(max(found))) if np.isfinite(found).all() else float("nan")


def best(matrix: Vectors, queries: Vectors, count: int, *, length: float, backend: str = "numpy") -> list[list[int]]:
    """Returns for each query the rows with the largest inner products, the largest first, and of equals the first row first.

    Args:
        matrix: [N, H], may be mapped from a file; it is read in blocks.
        queries: [Q, H].
        count: rows per query; all N if there are no more.
        length: of the longest row.
        backend: "numpy" or "faiss".

    >>> corners = np.eye(3, dtype=np.float32)
    >>> best(corners, np.float32([[0, 2, 1]]), 2, length=1.0)
    [[1, 2]]
    """
    count = min(count, len(matrix))
    # of a sum of H products, in any order, each rounded: see Higham, Accuracy and Stability, 3.1
    rounding = matrix.shape[1] * float(np.finfo(np.float32).eps)
    sizes = np.sqrt(np.square(queries, dtype=np.float64).sum(axis=1))
    errors = rounding * length * sizes + matrix.shape[1] * float(np.finfo(np.float32).tiny)
    return BACKENDS[backend](matrix, queries, count, errors)


def _by_numpy(matrix: Vectors, queries: Vectors, count: int, errors: NDArray[np.float64]) -> list[list[int]]:
    found = [_Best(query, count) for query in queries]
    for block in blocks(matrix):
        rows = matrix[block]
        for one, products, error in zip(found, queries @ rows.T, errors, strict=True):
            most = min(count, len(rows))
            lowest = np.partition(products, len(rows) - most)[len(rows) - most]
            floor = max(np.float64(lowest) - 2 * error, one.lowest - error)
            near = np.flatnonzero(products >= floor)
            one.add(near + block.start, rows[near])
    return [one.numbers.tolist() for one in found]


def _by_faiss(matrix: Vectors, queries: Vectors, count: int, errors: NDArray[np.float64]) -> list[list[int]]:
    asked = min(count + _SPARE, len(matrix))
    near = list(zip(*_nearest(matrix, queries, asked), strict=True))
    found = []
    for query, (products, numbers), error in zip(queries, near, errors, strict=True):
        more = asked
        while more < len(matrix) and products[-1] >= np.float64(products[count - 1]) - 2 * error:
            more = min(4 * more, len(matrix))
            ((products,), (numbers,)) = _nearest(matrix, query[None], more)
        one = _Best(query, count)
        for start in range(0, len(numbers), count + _SPARE):
            some = np.sort(numbers[start : start + count + _SPARE])
            one.add(some, matrix[some])
        found.append(one.numbers.tolist())
    return found


def _nearest(matrix: Vectors, queries: Vectors, count: int) -> tuple[Vectors, NDArray[np.int64]]:
    """Returns products and numbers, [Q, count] each, as an IndexFlatIP does, but without a copy of the matrix."""
    import faiss

    products, numbers = faiss.knn(queries, matrix, count, metric=faiss.METRIC_INNER_PRODUCT)
    return products, numbers


class _Best:
    """The best rows so far for a query [H]."""

    def __init__(self, query: Vectors, count: int) -> None:
        self._query, self._count = query.astype(np.float64), count
        self.numbers: NDArray[np.int64] = np.empty(0, np.int64)
        self._products: NDArray[np.float64] = np.empty(0)

    @property
    def lowest(self) -> np.float64:
        """What a row must reach to be among them."""
        return np.float64(self._products[-1] if len(self._products) == self._count else -np.inf)

    def add(self, numbers: NDArray[np.int64], rows: Vectors) -> None:
        """Takes rows [I, H] with their numbers [I] into account."""
        products = (rows.astype(np.float64) * self._query).sum(axis=1)
        products, numbers = np.concatenate([self._products, products]), np.concatenate([self.numbers, numbers])
        order = np.lexsort((numbers, -products))[: self._count]
        self._products, self.numbers = products[order], numbers[order]


BACKENDS: dict[str, Callable[[Vectors, Vectors, int, NDArray[np.float64]], list[list[int]]]] = {
    "numpy": _by_numpy,
    "faiss": _by_faiss,
}


def require_backend(name: str) -> None:
    """Raises `ConfigError` unless there is such a backend, and it is installed."""
    if name not in BACKENDS:
        raise unknown_name("backend", name, BACKENDS)
    if name == "faiss":
        try:
            import faiss  # noqa: F401
        except ModuleNotFoundError as error:
            raise ConfigError("backend='faiss' needs faiss: pip install 'arpo-envs[faiss]'") from error
