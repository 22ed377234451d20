"""`arpo bench gpu`: everything that only a GPU can show, in one go and into one record.

`measures.py` lists what is measured, and each of its entries is a function of another file here. `suite.py` runs them in
processes (`worker.py`) that may crash or hang without costing the numbers of the others.
"""

from .suite import GpuBench, run

__all__ = ["GpuBench", "run"]
