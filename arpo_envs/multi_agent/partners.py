"""The agents that are not trained: functions of what they see, made from a name or given as they are."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..dialects import Dialect
from ..errors import ConfigError
from ..plugins import Registry
from ..tools.spec import ToolSpec


@dataclass(frozen=True)
class Turn:
    """What an agent knows when it is to act.

    Args:
        observation: what it has just been shown.
        begins: whether a conversation begins with it: earlier turns do not matter then.
        instructions: how an action must be written.
        dialect: reads and writes actions.
        tools: what it may call.
    """

    observation: str
    begins: bool
    instructions: str
    dialect: Dialect
    tools: tuple[ToolSpec, ...]


Partner = Callable[[Turn], str]
"""Returns an action, written in the turn's dialect. If it has state, that is copied with the environment (`deepcopy`); if it
draws at random, it has a method `reseed(seed)`."""

PARTNERS = Registry("agent", "arpo.agents", {"extractive": "arpo_envs.multi_agent.partners:extractive"})
"""Functions from a `Turn` to an action, by name, and what installed packages offer under the entry points `arpo.agents`."""

_NUMBERED = re.compile(r"^L\d+:\s*[*#]*\s*")
_LINK = re.compile(r"【\d+†([^†】]*)(?:†[^】]*)?】")


def make_partner(asked: str | Partner) -> Partner:
    """Returns a partner by name, or as it is given.

    Args:
        asked: a name in `PARTNERS`, "package.module:object", or a function.

    Raises:
        ConfigError: the name is unknown, or what it names cannot be called.

    >>> make_partner("extractive") is extractive
    True
    """
    found = PARTNERS.find(asked) if isinstance(asked, str) else asked
    if not callable(found):
        raise ConfigError(f"An agent is a function from a Turn to an action, or the name of one; got {found!r}.")
    partner: Partner = found
    return partner


def extractive(turn: Turn) -> str:
    r"""Reads without a model: the lines of the first view that share most words with the question are the note.

    >>> from arpo_envs import make_dialect
    >>> seen = "Question: the capital\n\n[0] Germany\n\nL0: country\nL1: * capital: 【0†Berlin】"
    >>> extractive(Turn(seen, True, "", make_dialect("tags", ()), ()))
    '<answer>capital: Berlin</answer>'
    """
    question, _, page = turn.observation.partition("\n\n")
    wanted = _words(question.partition(":")[2])
    lines = [_LINK.sub(r"\1", _NUMBERED.sub("", line)).strip() for line in page.split("\n") if _NUMBERED.match(line)]
    shared = [len(wanted & _words(line)) for line in lines]
    most = max(shared, default=0)
    chosen = [line for line, count in zip(lines, shared, strict=True) if count == most] if most else []
    return turn.dialect.answer("\n".join(chosen) or "The page says nothing about it.")


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
