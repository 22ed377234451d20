"""The laws of environments and tools, by name."""

import enum


class Law(enum.StrEnum):
    """What must hold for an environment or a tool; the value is the law as a sentence."""

    REPRODUCIBLE = "the same seed and actions give the same episode"
    NUMBERS = "rewards are finite numbers, and success lies between 0 and 1"
    THREADS = "calls may come from any thread, and several sessions work at once"
    SECRETS = "a tool cannot reach what makes the answers"
    LEVEL = "the declared fork level is honest"
    REPEATS = "restoring and repeating the actions repeats everything"
    FAITHFUL = "a clone continues as its original would have"
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
    TIMEOUT = "a call returns within its timeout"
    MISTAKES = "a model's mistakes are results, not exceptions"


STATE = "Do what the exception says; if it comes from your own code, state that it relies on was not copied."
"""Advice for an exception raised in a copy."""
