"""Conformance kit: run it on your own environments, wrappers and tools.

`check_forkable_env` runs the laws of forking over a whole stack of wrappers, `check_tool` the laws of
tools over one tool. Both return a `Report`, and raise `ConformanceError` unless told otherwise.
"""

from .env_laws import check_forkable_env
from .report import ConformanceError, Finding, Law, Report
from .tool_laws import check_tool

__all__ = ["ConformanceError", "Finding", "Law", "Report", "check_forkable_env", "check_tool"]
