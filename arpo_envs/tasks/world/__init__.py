"""The built-in world: real facts about cities, countries and elements, and questions about them.

`build.py` reads the facts and chooses some, `counterfactual.py` permutes them, `corpus.py` is the world with its documents;
`chains.py` and `variants.py` say what may be asked and what is accepted, and `questions.py` asks.
"""

from .chains import LINKS, names_of
from .corpus import FORMAT, SPLITS, Corpus, Document, World, cache_directory, load_world, split_of, write_atomically
from .questions import Habits, QuestionSource, lexicon_of

__all__ = [
    "FORMAT",
    "LINKS",
    "SPLITS",
    "Corpus",
    "Document",
    "Habits",
    "QuestionSource",
    "World",
    "cache_directory",
    "lexicon_of",
    "load_world",
    "names_of",
    "split_of",
    "write_atomically",
]
