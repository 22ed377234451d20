"""Metrics of trees, for people and logs: of a batch in `batch.py`, of what forks were good for in `forks.py`; all pure."""

from .batch import (
    FAILED,
    as_json,
    by_env,
    combined,
    failed_by_status,
    fork_depths,
    measures,
    summarise,
    summarise_envs,
)
from .forks import summarise_forks

__all__ = [
    "FAILED",
    "as_json",
    "by_env",
    "combined",
    "failed_by_status",
    "fork_depths",
    "measures",
    "summarise",
    "summarise_envs",
    "summarise_forks",
]
