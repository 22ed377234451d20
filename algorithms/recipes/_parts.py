"""What several recipes share."""

from arpo_envs import ConfigError

from ..advantages import AdvantageEstimator
from ..algorithm import Algorithm, Need
from ..branching.strategy import BranchingStrategy
from ..losses.aggregation import Aggregation
from ..losses.clip import ClipLoss
from ..rewards import unequal_rewards


def needs_for(kl: float) -> frozenset[Need]:
    """Returns the needs of an algorithm with a KL penalty to the initial policy, which runs only if `kl` is above 0."""
    return frozenset({"reference"}) if kl > 0 else frozenset()


def refuse_no_weight(name: str, weight: float) -> None:
    """Refuses to compute entropies whose weight is 0.

    Raises:
        ConfigError: the weight is 0.
    """
    if weight == 0.0:
        raise ConfigError(f"{name} = 0 ignores the entropy that decides where to fork; that is 'random_branching'.")


def clipped(
    name: str,
    source: str,
    branching: BranchingStrategy,
    advantages: AdvantageEstimator,
    *,
    rollouts: int,
    aggregation: Aggregation,
    skip_equal: bool,
    clip: float,
    kl: float,
) -> Algorithm:
    """Returns an algorithm with PPO's surrogate, clipped equally on both sides; the options are those of `arpo`."""
    return Algorithm(
        name=name,
        source=source,
        branching=branching,
        rollouts=rollouts,
        advantages=advantages,
        loss=ClipLoss(clip, clip, kl),
        aggregation=aggregation,
        needs=needs_for(kl),
        keep=unequal_rewards if skip_equal else None,
    )
