"""The arms of a comparison: algorithms with options, as one word each."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from arpo_envs import ConfigError

from .words import parse_arguments

_OWN_OPTION = ("rollouts", "roots", "probe")
"""Options of an algorithm that `arpo train` has under the same name."""


@dataclass(frozen=True)
class Arm:
    """An algorithm with options.

    Args:
        name: as it was written.
        algorithm: its name, or package.module:object.
        options: NAME=VALUE words.
    """

    name: str
    algorithm: str
    options: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Its name in the name of a folder."""
        return re.sub(r"[^\w.=+-]+", "-", self.name).strip("-")

    @property
    def words(self) -> list[str]:
        """Options of `arpo train` for it."""
        named = [word.partition("=") for word in self.options]
        own = [word for name, _, value in named if name in _OWN_OPTION for word in (f"--{name}", value)]
        rest = [f"{name}={value}" for name, _, value in named if name not in _OWN_OPTION]
        return ["--algorithm", self.algorithm, *own, *(["--algorithm-args", *rest] if rest else [])]


def arm_of(word: str) -> Arm:
    """Returns the arm that a word stands for: an algorithm, and after a colon its options, separated by commas.

    Raises:
        ConfigError: an option is not NAME=VALUE.

    >>> arm_of("arpo:alpha=0.3,rollouts=8").words
    ['--algorithm', 'arpo', '--rollouts', '8', '--algorithm-args', 'alpha=0.3']
    >>> arm_of("package.module:object").algorithm
    'package.module:object'
    """
    algorithm, colon, options = word.rpartition(":")
    if not colon or "=" not in options:
        return Arm(word, word)
    split = tuple(re.split(r",(?=[^\W\d]\w*=)", options))
    try:
        parse_arguments(split)
    except ConfigError as error:
        raise ConfigError(f"{word!r} is not an arm: {error} Write ALGORITHM, or ALGORITHM:NAME=VALUE,NAME=VALUE.") from error
    return Arm(word, algorithm, split)


def arms_of(words: Sequence[str]) -> list[Arm]:
    """Returns the arms that words stand for.

    Raises:
        ConfigError: they are fewer than two, or two are the same.
    """
    arms = [arm_of(word) for word in words]
    if len(arms) < 2:
        raise ConfigError("A comparison needs at least two arms, e.g. arpo compare arpo grpo random_branching.")
    if len({arm.folder for arm in arms}) < len(arms):
        raise ConfigError(f"Two arms are the same, or their folders would be: {', '.join(words)}.")
    return arms
