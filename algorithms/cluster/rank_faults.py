"""What it means that a learner's rank fails: whether the run is wrong, or only where the rank is."""

from collections.abc import Sequence

from arpo_envs import ConfigError

from ..policies.served import ServerFault
from ..rollout import reason
from .launcher import Lost


class LostForGood(ServerFault):
    """The ranks of a learner were lost and are not made anew any more: whatever is asked of them, it will not succeed."""


def about_the_run() -> tuple[type[Exception], ...]:
    """Returns the errors that come again however often ranks are made anew, so that one rank's word counts for all."""
    from ..learner import Diverged  # only where something is trained is there torch

    return ConfigError, Diverged


def what_counts(errors: Sequence[BaseException], *, alike: bool) -> BaseException:
    """Returns what is raised for the errors of ranks: unless they failed alike, the fault is with a device or a connection.

    Args:
        errors: at least one.
        alike: whether every rank raised the same.
    """
    for kind in (Lost, about_the_run()):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0] if alike else Lost(f"It failed: {reason(errors[0]).rstrip('.')}.")
