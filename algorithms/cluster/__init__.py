"""A run on many machines.

What it will cost is planned beforehand: trees as numbers of tokens (`Shape`, drawn from a `Workload`) are rolled out on a
simulated machine (`Machine`, `Layout`, `Tools`, `Deaths`), whose constants are given or `fitted` to steps that were taken.
"""

from .fit import Taken, fitted, unexplained
from .machine import Deaths, Layout, Machine, Tools
from .plan import Losses, Setting, Split, Step, gains, losses, mean_step, predict, predict_each, splits
from .work import Shape, Workload, made_up, shape_of, workload_of

__all__ = [
    "Deaths",
    "Layout",
    "Losses",
    "Machine",
    "Setting",
    "Shape",
    "Split",
    "Step",
    "Taken",
    "Tools",
    "Workload",
    "fitted",
    "gains",
    "losses",
    "made_up",
    "mean_step",
    "predict",
    "predict_each",
    "shape_of",
    "splits",
    "unexplained",
    "workload_of",
]
