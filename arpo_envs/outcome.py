"""What an episode came to, what it earns, and what decides that: a reward rule."""

from collections.abc import Callable
from dataclasses import dataclass

from .tasks import Task


@dataclass(frozen=True)
class Outcome:
    """What a reward rule may see of an episode: only what the model itself wrote and really did.

    Args:
        answer: the text of the model's answer, None if it never answered.
        well_formed: no action of the episode was a format mistake.
        tools_used: names of the tools that ran at least once without an error.
    """

    answer: str | None
    well_formed: bool
    tools_used: frozenset[str]


@dataclass(frozen=True)
class Score:
    """A reward with its parts, for people and logs.

    Args:
        value: the reward.
        success: whether the answer counts as right, in [0, 1], for evaluation.
    """

    value: float
    success: float


RewardRule = Callable[[Task, Outcome], Score]
