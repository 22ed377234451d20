"""`Transcript`: keeps the conversation as chat messages."""

from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from .conversation import Conversation, Message
from .remembering import Remembering


class Transcript(Remembering[str, str], RecordConstructorArgs):
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

    def __init__(self, env: gym.Env[str, str], observation_role: str = "user") -> None:
        RecordConstructorArgs.__init__(self, observation_role=observation_role)
        Remembering.__init__(self, env)
        self._conversation = Conversation(observation_role)

    @property
    def messages(self) -> list[Message]:
        """The conversation so far; a copy that belongs to the caller."""
        return self._conversation.messages

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Starts a new conversation."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._conversation.begin(self, observation)
        return self._returned(observation, info)

    def step(self, action: str) -> tuple[str, Any, bool, bool, dict[str, Any]]:
        """Records the action and what comes back."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._conversation.add(action, observation)
        if terminated or truncated:
            info = {**info, "messages": self.messages}
        observation, info = self._returned(observation, info)
        return observation, reward, terminated, truncated, info
