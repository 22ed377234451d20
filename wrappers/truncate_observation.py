"""`TruncateObservation`: cuts long observations in their middle, and says so."""

from typing import ClassVar

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from arpo_envs import ConfigError, ForkLevel

_MARK = "\n… [cut: {} characters] …\n"


class TruncateObservation(gym.ObservationWrapper[str, str, str], RecordConstructorArgs):
    """Shortens every observation to a number of characters: its beginning, how much was cut, and its end.

    The end stays because it holds the mark that closes a result, and what the environment says of turns that are left. Both
    cuts are made at a line break or a space, if there is one in the half of the kept text beside the cut.

    Args:
        env: a text environment.
        characters: of the longest observation, the note included.
        end: characters of its end that are kept at most.

    Raises:
        ConfigError: the two numbers leave no room for a beginning and the note.

    >>> import gymnasium as gym
    >>> env = TruncateObservation(gym.make("ARPO/Search-v0", split="test"), characters=200, end=60)
    >>> question, info = env.reset(options={"task": "city-2886242/country/capital"})
    >>> print(env.step("<search>Germany</search>")[0])
    <result>Germany: country in Europe; capital Berlin; currency Euro; calling code 49; internet domain .de; ISO
    … [cut: 337 characters] …
    time zone Europe/Berlin; nearest city Blieskastel.</result>
    """

    fork_level: ClassVar[ForkLevel] = ForkLevel.EXACT

    def __init__(self, env: gym.Env[str, str], characters: int = 2000, end: int = 100) -> None:
        RecordConstructorArgs.__init__(self, characters=characters, end=end)
        gym.ObservationWrapper.__init__(self, env)
        if end < 0 or characters < end + _LEAST:
            raise ConfigError(f"characters must be at least end + {_LEAST} and end at least 0, got {characters} and {end}.")
        self._characters, self._end = characters, end

    def observation(self, observation: str) -> str:
        """Returns a text as it is shown."""
        if len(observation) <= self._characters:
            return observation
        room = self._characters - self._end - len(_MARK.format(len(observation)))
        beginning = observation[: _cut(observation[:room])]
        end = len(observation) - _cut(observation[len(observation) - self._end :][::-1])
        return f"{beginning}{_MARK.format(end - len(beginning))}{observation[end:]}"


_LEAST = 60
"""Characters for a beginning and the note about a text of up to a million characters."""


def _cut(text: str) -> int:
    r"""Returns how much of a text's beginning to keep, so that it ends before a line break or a space.

    >>> [_cut("one two three"), _cut("one\ntwo three"), _cut("one two\nthree"), _cut("onetwothree")]
    [7, 7, 7, 11]
    """
    half = len(text) // 2
    at = text.rfind("\n", half)
    at = at if at >= 0 else text.rfind(" ", half)
    return at if at >= 0 else len(text)
