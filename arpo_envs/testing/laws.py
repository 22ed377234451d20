"""The laws of environments and tools, by name."""

import enum


class Law(enum.StrEnum):
    """What must hold of an environment or a tool; the value is the law as a sentence."""

    REPRODUCIBLE = "the same seed and actions give the same episode"
    NUMBERS = "rewards are finite numbers, and success lies between 0 and 1"
    THREADS = "calls may come from any thread, and several sessions work at once"
    SECRETS = "what makes the answers is out of a tool's reach"
    LEVEL = "the declared fork level is honest"
    REPEATS = "restoring and repeating the actions repeats everything"
    FAITHFUL = "a clone goes on as its original would have"
    INDEPENDENT = "clones are independent in both directions"
    RESEED = "a clone with a seed draws anew, and reproducibly"
    UNTOUCHED = "a snapshot or clone changes nothing"
    REFUSAL = "foreign and stale snapshots are refused by name"
    TRAVELS = "counters and random state travel"
    CLOSE = "closing one leaves the others alive"
    NO_OBJECT_LEAKS = "no object and no thread leaks"
    NO_HANDLE_LEAKS = "no process and no file descriptor leaks"
    INFO = "mutable things in info are never shared"
    DEEPCOPY = "a plain copy.deepcopy is a clone"
    PORTABLE = "a portable snapshot survives pickling"

    SPECS = "a tool's specifications are well-formed"
    RESULTS = "every call returns a ToolResult"
    TIMEOUT = "a call comes back by its timeout"
    MISTAKES = "a model's mistakes are results, not exceptions"


STATE = "Do what the exception says; if it comes from your own code, a state it relies on did not travel."
"""Advice for an exception in what was copied."""
