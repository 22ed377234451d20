"""What several recipes share."""

from collections.abc import Callable

from arpo_envs import ConfigError

from ..algorithm import Need
from ..rewards import unequal_rewards
from ..tree import RolloutTree


def needs_for(kl: float) -> frozenset[Need]:
    """Returns the needs of an algorithm with a penalty to the initial policy, which is only run if it is not 0."""
    return frozenset({"reference"}) if kl > 0 else frozenset()


def refuse_no_weight(name: str, weight: float) -> None:
    """Refuses an entropy that is paid for and then ignored.

    Raises:
        ConfigError: its weight is 0.
    """
    if weight == 0.0:
        raise ConfigError(f"{name} = 0 ignores the entropy that decides where to fork; that is 'random_branching'.")


def keep_unequal(skip: bool) -> Callable[[RolloutTree], bool] | None:
    """Returns the filter that leaves out groups of equal rewards, if asked for."""
    return unequal_rewards if skip else None
