"""Checks of numbers that losses and estimators share."""

import math

from arpo_envs import ConfigError


def require_kl(coefficient: float) -> None:
    """Refuses an invalid coefficient of a KL penalty.

    Args:
        coefficient: to check; 0 for no penalty.

    Raises:
        ConfigError: it is negative or not finite.

    >>> require_kl(-0.1)
    Traceback (most recent call last):
    arpo_envs.errors.ConfigError: kl is the coefficient of a penalty, at least 0 and finite; got -0.1.
    """
    if not 0.0 <= coefficient < math.inf:
        raise ConfigError(f"kl is the coefficient of a penalty, at least 0 and finite; got {coefficient}.")
