"""Mixtures of environments as the commands name them: ID=WEIGHT,ID=WEIGHT, and ID:NAME=VALUE for arguments of one of them."""

from collections.abc import Sequence
from typing import Any

from arpo_envs import ConfigError
from arpo_envs.errors import unknown_name

from .words import parse_arguments

MIXTURE = "ARPO/Mixture-v0"


def weights_in(env: str) -> dict[str, float] | None:
    """Returns the weight of each environment that a mixture names, None for the id of a single environment.

    Raises:
        ConfigError: an id is missing or named twice, or a weight is not a number.

    >>> weights_in("ARPO/Search-v0=3,ARPO/Python-v0"), weights_in("ARPO/Search-v0")
    ({'ARPO/Search-v0': 3.0, 'ARPO/Python-v0': 1.0}, None)
    """
    if "," not in env and "=" not in env:
        return None
    found: dict[str, float] = {}
    for part in env.split(","):
        name, equals, weight = (piece.strip() for piece in part.partition("="))
        if not name:
            raise ConfigError(f"A mixture is written ID=WEIGHT,ID=WEIGHT, got {env!r}: an id is missing.")
        if name in found:
            raise ConfigError(f"{name} is in the mixture twice. Add its weights up.")
        try:
            found[name] = float(weight) if equals else 1.0
        except ValueError as error:
            raise ConfigError(f"The weight of {name} must be a number, got {weight!r}.") from error
    return found


def env_arguments(env: str, words: Sequence[str]) -> dict[str, Any]:
    """Returns NAME=VALUE words as keyword arguments of an environment, or of a mixture; later ones replace earlier ones.

    Args:
        env: its id, or ID=WEIGHT,ID=WEIGHT.
        words: in a mixture, NAME=VALUE is for every environment, and ID:NAME=VALUE for one of them.

    Raises:
        ConfigError: a word has another form, or names an environment that is not in the mixture.

    >>> env_arguments("ARPO/Search-v0,ARPO/Python-v0", ["split=test", "ARPO/Search-v0:hops=1"])
    {'split': 'test', 'arguments': {'ARPO/Search-v0': {'hops': 1}}}
    """
    weights = weights_in(env)
    if weights is None:
        return parse_arguments(words)
    common: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {name: {} for name in weights}
    for word in words:
        member, colon, _ = word.partition("=")[0].rpartition(":")
        if colon and member not in own:
            raise unknown_name("environment of the mixture", member, own)
        given = parse_arguments([word.removeprefix(f"{member}:") if colon else word])
        if colon:
            own[member] |= given
        else:
            common |= given
            own = {name: {key: value for key, value in found.items() if key not in given} for name, found in own.items()}
    own = {name: found for name, found in own.items() if found}
    return common | ({"arguments": own} if own else {})


def members_in(env: str, words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns the keyword arguments of each environment alone; of the only one, unless it is a mixture."""
    given = env_arguments(env, words)
    weights = weights_in(env)
    if weights is None:
        return {env: given}
    own = given.pop("arguments", {})
    return {name: given | own.get(name, {}) for name in weights}


def described(env: str) -> str:
    """Returns a mixture's environments with their shares, or the id of a single environment.

    >>> described("ARPO/Search-v0=3,ARPO/Python-v0=1")
    'ARPO/Search-v0 75%, ARPO/Python-v0 25%'
    """
    weights = weights_in(env)
    if weights is None:
        return env
    total = sum(weights.values())
    return ", ".join(f"{name} {100 * weight / total:.3g}%" for name, weight in weights.items())
