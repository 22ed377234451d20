"""Metrics of trees, for people and logs, all pure: of a batch in `batch.py` and of forks in `forks.py`."""

from .batch import (
    FAILED,
    as_json,
    by_env,
    combined,
    failed_by_status,
    fork_depths,
    measures,
    summarise,
    summarise_costs,
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
    "summarise_costs",
    "summarise_envs",
    "summarise_forks",
]
