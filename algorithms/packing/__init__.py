"""Packing: trees as rows, each unique token computed once, and log-probabilities out per path.

`flat.py` makes a row of every path and is the oracle; `layout.py` packs a tree, `batch.py` makes a batch of packed rows and
`forward.py` runs it through the model; `packable.py` finds out whether a model supports it, and `packer.py` decides which
paths share a row.
"""

from .batch import PackedBatch
from .flat import Row, rows_of, sampled_rows, without_faults
from .forward import Edges, Scorer, edges_of, score
from .layout import batches
from .packer import Packer

__all__ = [
    "Edges",
    "PackedBatch",
    "Packer",
    "Row",
    "Scorer",
    "batches",
    "edges_of",
    "rows_of",
    "sampled_rows",
    "score",
    "without_faults",
]
