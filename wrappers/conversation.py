"""A conversation with an environment as chat messages."""

from typing import Any, TypedDict

import gymnasium as gym

from arpo_envs import TextSpace, members

_LONGEST = TextSpace().max_length
"""Characters of a message."""


class Message(TypedDict):
    """One turn, as chat templates expect it."""

    role: str
    content: str


class Conversation:
    """The messages of one episode.

    The environment's instructions, where it has any, are the system message, and its examples come before the question. What
    an environment says is already wrapped in its dialect's marks, hence the role "user" for observations: a chat template
    would wrap the role "tool" once more. An empty observation adds no message.

    Args:
        observation_role: role of what the environment says after the first message.
    """

    def __init__(self, observation_role: str) -> None:
        self._observation_role = observation_role
        self._messages: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """All messages so far; a copy."""
        return [message.copy() for message in self._messages]

    def begin(self, env: "gym.Env[Any, Any]", question: str) -> None:
        """Starts anew, with what an environment asks."""
        self._messages = []
        self._say("system", members.INSTRUCTIONS.through(env))
        for shown, *turns in members.EXAMPLES.through(env):
            self._say("user", shown)
            for at, text in enumerate(turns):
                self._say(self._observation_role if at % 2 else "assistant", text)
        self._say("user", question)

    def add(self, action: str, observation: str) -> None:
        """Adds what a model did, and what came back."""
        text = action.encode("utf-8", "replace").decode("utf-8")[:_LONGEST]  # what no message can hold is not shown as it was
        self._messages.append({"role": "assistant", "content": text})
        self._say(self._observation_role, observation)

    def _say(self, role: str, content: str) -> None:
        if content:
            self._messages.append({"role": role, "content": content})
