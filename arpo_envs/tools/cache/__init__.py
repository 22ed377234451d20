"""Answers of tools in a file: a cache for all runs, or the recording of one run, from which it can be repeated offline.

Only what does not change can be answered from a file: a tool says so with the attribute `pure`, which holds everything its
answers depend on besides the call. A tool with state is called in every mode. `answered` puts a `Cache`, a `Recorder` or a
`Replayer` in front of a tool, `answer_tools` in front of all tools of an environment; `Store` is the file, and `ask`,
`subject_of` and `Place` are for sources behind a tool, such as pages.
"""

from .answered import answered, cached
from .answers import Answer, Answers, Cache, Recorder, Replayer
from .environments import answer_tools, require_split
from .questions import Place, Question, ask, subject_of
from .store import Found, Store

__all__ = [
    "Answer",
    "Answers",
    "Cache",
    "Found",
    "Place",
    "Question",
    "Recorder",
    "Replayer",
    "Store",
    "answer_tools",
    "answered",
    "ask",
    "cached",
    "require_split",
    "subject_of",
]
