"""`ChatMessages`: the observation is the whole conversation, as chat messages."""

from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from arpo_envs import TextSpace

from .conversation import Conversation, Message
from .remembering import Remembering


class ChatMessages(Remembering[tuple[Message, ...], str], RecordConstructorArgs):
    """Returns the conversation so far as messages, ready for a chat template or an API.

    Messages are those of `Transcript`: the instructions as "system", then "user" and "assistant". Observations are tuples,
    as Gymnasium's sequences of dictionaries must be; `list(observation)` suits everybody else.

    Args:
        env: a text environment.
        observation_role: role of what the environment says after the first message.

    >>> import gymnasium as gym
    >>> env = ChatMessages(gym.make("ARPO/Search-v0", cities_per_country=3))
    >>> messages, info = env.reset(seed=7)
    >>> messages, *_ = env.step("<search>Bordeaux</search>")
    >>> [message["role"] for message in messages]
    ['system', 'user', 'assistant', 'user']
    """

    def __init__(self, env: gym.Env[str, str], observation_role: str = "user") -> None:
        RecordConstructorArgs.__init__(self, observation_role=observation_role)
        Remembering.__init__(self, env)
        message = gym.spaces.Dict(role=TextSpace(), content=TextSpace())
        self.observation_space: gym.Space[Any] = gym.spaces.Sequence(message)
        self._conversation = Conversation(observation_role)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[Message, ...], dict[str, Any]]:
        """Starts a conversation: its instructions and its question."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._conversation.begin(self, observation)
        return self._returned(tuple(self._conversation.messages), info)

    def step(self, action: str) -> tuple[tuple[Message, ...], Any, bool, bool, dict[str, Any]]:
        """Acts, and returns all messages up to the one that came back."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._conversation.add(action, observation)
        messages, info = self._returned(tuple(self._conversation.messages), info)
        return messages, reward, terminated, truncated, info
