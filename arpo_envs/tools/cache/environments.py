"""The tools of a whole environment, answered from a file."""

from typing import Any

import gymnasium as gym

from ...errors import ConfigError
from ...members import ANSWERED, MIXED, PURE, TOOLS
from .. import Tool
from .answered import answered
from .answers import Answers


def answer_tools(env: "gym.Env[Any, Any]", answers: Answers) -> None:
    """Lets `answers` answer for every tool of an environment for which that is possible; the others stay as they are.

    Args:
        env: a stack around an environment with tools, before its reset.
        answers: who answers.

    Raises:
        ConfigError: it is possible for none of them, or a tool's configuration names a credential.
    """
    answerable, _ = require_split(env)
    for base in _bases(env):
        base.tools = tuple(answered(tool, answers) if tool in answerable else tool for tool in TOOLS.of(base))


def _bases(env: "gym.Env[Any, Any]") -> list[Any]:
    """Returns the environments that have tools of their own: those of a mixture, which may hold mixtures, or the base."""
    mixed = MIXED.of(env.unwrapped).values()
    return [base for member in mixed for base in _bases(member)] or [env.unwrapped]


def require_split(env: "gym.Env[Any, Any]") -> tuple[list[Tool], list[Tool]]:
    """Returns the tools of an environment that can be answered from a file, and those that are always called.

    Raises:
        ConfigError: none can be answered from a file.
    """
    tools = TOOLS.of(env.unwrapped)
    can = [tool for tool in tools if PURE.of(tool) is not None or ANSWERED.of(tool) is not None]
    if not can:
        raise ConfigError(
            f"{type(env.unwrapped).__name__} has no tool whose calls can be recorded or replayed: none declares itself `pure` "
            "(docs/add-a-tool.md). Leave the option out."
        )
    return can, [tool for tool in tools if tool not in can]
