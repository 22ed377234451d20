"""Instructions by name: what a policy is told before its question, one prompt per file.

A prompt is written for the tools and the dialect of an environment. `wrappers.Prompted` gives it to one, with worked examples.
"""

from ..errors import unknown_name
from .ours import OURS
from .paper import PAPER
from .prompt import Prompt
from .search_r1 import SEARCH_R1

__all__ = ["PROMPTS", "Prompt", "find_prompt"]

PROMPTS = {prompt.name: prompt for prompt in (OURS, PAPER, SEARCH_R1)}
"""All prompts by name."""


def find_prompt(name: str) -> Prompt:
    """Returns the prompt of that name.

    Raises:
        ConfigError: there is none.

    >>> find_prompt("search_r1")
    Traceback (most recent call last):
    arpo_envs.errors.ConfigError: Unknown prompt 'search_r1'. Known: ours, paper, search-r1. Did you mean 'search-r1'?
    """
    if name not in PROMPTS:
        raise unknown_name("prompt", name, PROMPTS)
    return PROMPTS[name]
