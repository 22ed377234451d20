"""What a run will cost, from a simulation of its steps.

`work.py` says what a step has to do: trees as numbers of tokens, read from a run or drawn. `machine.py` says what there is to
do it with, and how fast that is. `simulate.py` rolls the trees out, in processes that do one thing at a time (`process.py`) and
on engines (`engine.py`) whose rows share their rounds; `update.py` says what learning from them takes. `plan.py` makes costs,
bottlenecks and layouts of that, and `fit.py` finds a machine's constants from steps it has taken.
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
