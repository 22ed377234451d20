"""`Transcript`: keeps the conversation as chat messages."""

import copy
from typing import Any, ClassVar, TypedDict

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from arpo_envs import ForkLevel, members


class Message(TypedDict):
    """One turn, as chat templates expect it."""

    role: str
    content: str


class Transcript(gym.Wrapper[str, str, str, str], RecordConstructorArgs):
    """Keeps the conversation as messages, and returns them in `info["messages"]` when the episode ends.

    The environment's instructions, where it has any, are the system message. What an environment
    says is already wrapped in its dialect's marks, hence the role "user" for observations: a chat
    template would wrap the role "tool" once more. An empty observation adds no message.

    Args:
        env: a text environment.
        observation_role: role of what the environment says after the first message.

    >>> import gymnasium as gym
    >>> env = Transcript(gym.make("ARPO/Search-v0", cities_per_country=3))
    >>> question, info = env.reset(seed=7)
    >>> [message["role"] for message in env.messages]
    ['system', 'user']
    """

    fork_level: ClassVar[ForkLevel] = ForkLevel.EXACT

    def __init__(self, env: gym.Env[str, str], observation_role: str = "user") -> None:
        RecordConstructorArgs.__init__(self, observation_role=observation_role)
        gym.Wrapper.__init__(self, env)
        self._observation_role = observation_role
        self._messages: list[Message] = []
        self._last: tuple[str, dict[str, Any]] = ("", {})

    @property
    def messages(self) -> list[Message]:
        """The conversation so far; a copy that belongs to the caller."""
        return copy.deepcopy(self._messages)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Starts a new conversation."""
        observation, info = self.env.reset(seed=seed, options=options)
        instructions = members.INSTRUCTIONS.through(self)
        self._messages = []
        self._say("system", instructions)
        self._say("user", observation)
        return self._returned(observation, info)

    def step(self, action: str) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        """Records the action and what comes back."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._messages.append({"role": "assistant", "content": action})
        self._say(self._observation_role, observation)
        if terminated or truncated:
            info = {**info, "messages": self.messages}
        observation, info = self._returned(observation, info)
        return observation, reward, terminated, truncated, info

    def last(self) -> tuple[str, dict[str, Any]]:
        """Returns the observation and info that the last reset or step returned."""
        return copy.deepcopy(self._last)

    def _say(self, role: str, content: str) -> None:
        if content:
            self._messages.append({"role": role, "content": content})

    def _returned(self, observation: str, info: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        self._last = (observation, copy.deepcopy(info))
        return observation, info
