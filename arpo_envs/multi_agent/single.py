"""One agent of several as a Gymnasium environment: the others are part of what it acts in."""

from typing import TYPE_CHECKING

from ..partners import Partner
from .game import DeepSearch
from .searching import SearchingAgent
from .side import SingleAgent

if TYPE_CHECKING:
    from pettingzoo import AECEnv


def single_agent(env: "AECEnv[str, str, str]", agent: str, **others: str | Partner) -> "SingleAgent":
    """Returns a Gymnasium environment of one agent of a PettingZoo environment whose actions are texts.

    Args:
        env: turn by turn, such as `deep_search_v0.env()` or a game of `arpo_envs.hubs.textarena_players`; it belongs to the new
            environment from now on.
        agent: the one that acts: "solver_0", or "solver" where there is only one.
        others: for every other agent a function from a `Turn` to an action, or the name of one; it is copied (`deepcopy`).

    Raises:
        ConfigError: an agent is unknown, one has no function, or the actions are not strings.

    >>> from arpo_envs.multi_agent import deep_search_v0
    >>> game = deep_search_v0.env(split="test", cities_per_country=10)
    >>> env = single_agent(game, "solver", reader="extractive")
    >>> question, info = env.reset(options={"task": "city-2886242/country/capital"})
    >>> env.step("<search>Köln</search>")[0].partition("†")[2][:4], env.step("<read>country</read>")[0]
    ('Köln', '<result>country: Germany</result>')
    """
    searches = isinstance(getattr(env.unwrapped, "game", None), DeepSearch)
    return (SearchingAgent if searches else SingleAgent)(env, agent, others)
