"""Menus of actions for `ActionMenu`."""

import re
from typing import Any

import gymnasium as gym

from arpo_envs import ConfigError, members


def phrases(env: gym.Env[Any, Any], observation: str) -> list[str]:
    """Offers to look up each phrase of an observation, with each tool that takes one text, and to answer with it.

    A phrase lies between punctuation or the word "of" and begins with a capital, a digit or a sign: of "capital Yerevan;
    calling code 374" these are "Yerevan" and "374". Of a question, the last phrase comes first, as it names what to begin with.

    Args:
        env: whose tools and dialect are used.
        observation: its last observation.

    Raises:
        ConfigError: the environment has no dialect.

    >>> import gymnasium as gym, arpo_envs
    >>> env = gym.make("ARPO/Search-v0", cities_per_country=3)
    >>> phrases(env, "<result>Gyumri: city in Armenia; population 114,667.</result>")[::2]
    ['<search>Gyumri</search>', '<search>Armenia</search>', '<search>114,667</search>']
    """
    dialect = members.DIALECT.through(env)
    if dialect is None:
        raise ConfigError("This menu needs an environment with a dialect; write a menu of your own.")
    tools = [(spec.name, spec.text_parameter) for spec in members.TOOL_SPECS.through(env) if spec.text_parameter]
    actions: list[str] = []
    for phrase in _phrases(observation):
        actions += [dialect.call(name, {parameter: phrase}) for name, parameter in tools]
        actions.append(dialect.answer(phrase))
    return actions


def _phrases(text: str) -> list[str]:
    """Returns the phrases of a text, each once.

    >>> _phrases("What is the area of the country of Sector 6?"), _phrases("Niger: area 1,267,000 square kilometres.")
    (['Sector 6', 'What is the area'], ['Niger', '1,267,000 square kilometres'])
    """
    plain = re.sub(r"<[^<>]*>", " ", text).strip()
    parts = re.split(r"[;:?!\n]|\.(?=\s|$)|\bof\b", plain)
    found = [re.sub(r"^(?:[a-z]\S*\s+)+(?=\S)", "", part.strip()) for part in parts]
    kept = list(dict.fromkeys(phrase for phrase in found if phrase and not phrase[0].islower()))
    return kept[::-1] if plain.endswith("?") else kept
