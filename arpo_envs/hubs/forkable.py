"""Finds out how somebody else's environment can be forked: by a copy, by replaying its actions, or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import NotForkable
from ..forking import ForkLevel, fork_level
from ..testing import Law, Report, check_forkable_env
from .adopted import Env, MakeEnv
from .copied import copied
from .replayed import replayed

_LAWS = (Law.LEVEL, Law.NUMBERS, Law.REPRODUCIBLE, Law.FAITHFUL, Law.INDEPENDENT, Law.UNTOUCHED)
"""Without these a copy is none; the whole kit, `check_forkable_env`, takes longer and asks for more."""


@dataclass(frozen=True)
class Forkable:
    """Makes environments that fork at a level that was found out.

    Args:
        make_env: makes them as they are.
        level: EXACT or REPLAY.
        adopted: whether they need an adapter; one that declares its level, and keeps it, needs none.
    """

    make_env: MakeEnv
    level: ForkLevel
    adopted: bool = True

    def __call__(self) -> Env:
        """Returns an environment that can be forked."""
        if not self.adopted:
            return self.make_env()
        return copied(self.make_env) if self.level is ForkLevel.EXACT else replayed(self.make_env)


def forkable(make_env: MakeEnv, *, actions: Sequence[Sequence[Any]] | None = None, seed: int = 0) -> Forkable:
    """Returns a maker of environments that can be forked, at the highest level at which they keep the laws.

    A few episodes are played: with deep copies first, and if these break a law, by replaying. What the actions do not reach
    is not tried.

    Args:
        make_env: makes an environment of Gymnasium, wrappers included.
        actions: sequences of actions to try, each from a reset on, which should make it use its randomness; without them,
            samples of its action space.
        seed: to reset with.

    Raises:
        NotForkable: it keeps the laws in neither way; the message has the first law that it breaks.
        ConfigError: `make_env` makes no environment.

    >>> import gymnasium as gym
    >>> make_env = forkable(lambda: gym.make("CartPole-v1"))
    >>> make_env.level, type(make_env()).__name__
    (<ForkLevel.EXACT: 'exact'>, 'Copied')
    """

    def judged(make: MakeEnv) -> Report:
        return check_forkable_env(make, actions=actions, seeds=(seed,), laws=_LAWS, raise_on_fail=False)

    with replayed(make_env) as env:
        name, declared = env.name, fork_level(env.live)
    if declared is not ForkLevel.NONE and judged(make_env).ok:
        return Forkable(make_env, declared, adopted=False)
    if judged(lambda: copied(make_env)).ok:
        return Forkable(make_env, ForkLevel.EXACT)
    report = judged(lambda: replayed(make_env))
    if not report.ok:
        finding = report.findings[0]
        raise NotForkable(
            f"{name} can be forked neither by a deep copy nor by replaying its actions. Replayed, it breaks the law that "
            f"{finding.law}: {finding}"
        )
    return Forkable(make_env, ForkLevel.REPLAY)
