"""A run on many machines.

`plan` says beforehand what one costs: trees as numbers of tokens (`Shape`, drawn from a `Workload`) are rolled out on a
simulated machine (`Machine`, `Layout`, `Tools`, `Deaths`).
"""
