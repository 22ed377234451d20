"""Conformance kit for policies: run it on your own backend.

`check_policy` runs the laws of `algorithms.policies.Policy` and returns a `Report`; it raises
`ConformanceError` unless told otherwise. It needs no torch.
"""

from .bench import Logits, Promises
from .policy_laws import check_policy
from .report import ConformanceError, Finding, Law, Report

__all__ = ["ConformanceError", "Finding", "Law", "Logits", "Promises", "Report", "check_policy"]
