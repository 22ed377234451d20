"""Conformance kit: run it on your own environments, wrappers and tools.

`check_forkable_env` runs the laws of forking over a whole stack of wrappers, `check_tool` the laws of
tools over one tool. Both return a `Report`, and raise `ConformanceError` unless told otherwise. `judge`
makes a report of laws of your own.
"""

from .env_laws import check_forkable_env
from .laws import Law
from .report import ConformanceError, Finding, Report, SkippedLaw, judge
from .tool_laws import check_tool

__all__ = ["ConformanceError", "Finding", "Law", "Report", "SkippedLaw", "check_forkable_env", "check_tool", "judge"]
