"""Environments with several agents, as PettingZoo has them, and one agent of them as a Gymnasium environment.

`deep_search_v0.py` has both of PettingZoo's interfaces to the game in `game.py`: a solver searches and answers, a reader sees
the pages (`desk.py` is the solver's tool, `pages.py` the reader's). `single.py` makes a Gymnasium environment of one agent of
any such game, in which the others are functions (`extractive.py` is one): `side.py` is its side, to which `searching.py` adds
what is special to deep search. And `questions.py` shows how an expert plays the solver.
"""

from .side import SingleAgent
from .single import single_agent

__all__ = ["SingleAgent", "single_agent"]
