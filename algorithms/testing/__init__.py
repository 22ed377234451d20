"""Conformance kit for policies: run it on your own backend.

`check_policy` runs the laws of `algorithms.policies.Policy` and returns a `Report`; it raises
`ConformanceError` unless told otherwise. It needs no torch.
"""

from arpo_envs.testing import ConformanceError, Finding, Report

from .bench import Logits, Promises
from .laws import Law
from .policy_laws import check_policy

__all__ = ["ConformanceError", "Finding", "Law", "Logits", "Promises", "Report", "check_policy"]
