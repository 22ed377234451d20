"""Conformance kits: run them on your own policies and algorithms.

`check_policy` runs the laws of `algorithms.policies.Policy` over one backend and needs no torch;
`check_algorithm` runs the laws of an `algorithms.Algorithm` over one of yours. Both return a `Report`, and raise
`ConformanceError` unless told otherwise.
"""

from arpo_envs.testing import ConformanceError, Finding, Report

from .algorithm_laws import check_algorithm
from .bench import Logits, Promises
from .laws import AlgorithmLaw, Law
from .policy_laws import check_policy

__all__ = [
    "AlgorithmLaw",
    "ConformanceError",
    "Finding",
    "Law",
    "Logits",
    "Promises",
    "Report",
    "check_algorithm",
    "check_policy",
]
