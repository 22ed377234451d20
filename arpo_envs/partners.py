"""The agents that are not trained: functions of what they see, made from a name or given as they are."""

from collections.abc import Callable
from dataclasses import dataclass

from .dialects import Dialect
from .errors import ConfigError
from .plugins import Registry
from .tools.spec import ToolSpec


@dataclass(frozen=True)
class Turn:
    """What an agent knows when it is to act.

    Args:
        observation: what it has just been shown.
        begins: whether a conversation begins with it: earlier turns do not matter then.
        instructions: how an action must be written.
        dialect: reads and writes actions; None where they are read as they are.
        tools: what it may call.
    """

    observation: str
    begins: bool
    instructions: str
    dialect: Dialect | None
    tools: tuple[ToolSpec, ...]


Partner = Callable[[Turn], str]
"""Returns an action, written in the turn's dialect if it has one. If it has state, that is copied with the environment
(`deepcopy`); if it draws at random, it has a method `reseed(seed)`."""

PARTNERS = Registry("agent", "arpo.agents", {"extractive": "arpo_envs.multi_agent.extractive:extractive"})
"""Functions from a `Turn` to an action, by name, and what installed packages offer under the entry points `arpo.agents`."""


def make_partner(asked: str | Partner) -> Partner:
    """Returns a partner by name, or as it is given.

    Args:
        asked: a name in `PARTNERS`, "package.module:object", or a function.

    Raises:
        ConfigError: the name is unknown, or what it names cannot be called.

    >>> make_partner("extractive").__name__
    'extractive'
    """
    found = PARTNERS.find(asked) if isinstance(asked, str) else asked
    if not callable(found):
        raise ConfigError(f"An agent is a function from a Turn to an action, or the name of one; got {found!r}.")
    partner: Partner = found
    return partner
