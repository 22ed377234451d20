"""The process in which a guarded tracker works: `python -m algorithms.tracking.worker`, started by `guarded.py`.

It reads pickled requests from its standard input, first the function that makes the tracker, then (method, arguments), and
writes a line of JSON for each thing that people should know. It ends after "close", or after a failure. If its input ends
before that, the run was killed: the exit status is 1, so that the tracker's own library can tell.

What is closed is done, so that nobody waits for what its library does when an interpreter exits: wandb may look for a server
that is gone for another minute.
"""

import json
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TextIO

from ..rollout import reason
from .tracker import FILE, LATER, TABLE, Tracker, TrackerWarning

Say = Callable[[str, str], None]
"""(kind, text): kind is "failed", "note", or "later" for what the tracker says of itself under this name."""


def serve(requests: BinaryIO, say: Say) -> bool | None:
    """Carries out requests until "close" or a failure; returns whether the tracker is closed, None if the requests just end.

    Args:
        requests: pickled.
        say: called with what people should know.
    """
    tracker: Tracker | None = None
    try:
        for request in _loaded(requests):
            if tracker is None:
                tracker = request()
                if later := LATER.of(tracker):
                    say("later", later)
                continue
            method, arguments = request
            _method(tracker, method)(*arguments)
            if method == "close":
                return True
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever it raises, the run wants to hear of it
        say("failed", reason(error))
        return False
    return None


def _loaded(requests: BinaryIO) -> Iterator[Any]:
    """Yields requests until they end; a tracker may raise an `EOFError` of its own."""
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        yield request


def _method(tracker: Tracker, name: str) -> Callable[..., None]:
    methods: dict[str, Callable[..., None]] = {
        "log": tracker.log,
        "summary": tracker.summary,
        "close": tracker.close,
        "table": TABLE.of(tracker),
        "file": FILE.of(tracker),
    }
    return methods[name]


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Returns the pipes to the run; what a library prints or asks must not get between."""
    requests, messages = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, messages


def main() -> int:
    """Serves the process that started this one."""
    requests, messages = _pipes()

    def say(kind: str, text: str) -> None:
        messages.write(json.dumps([kind, text]).encode() + b"\n")

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, TrackerWarning):
            say("note", str(message))

    warnings.showwarning = show
    warnings.simplefilter("always", TrackerWarning)
    closed = serve(requests, say)
    if closed:
        os._exit(0)
    return 1 if closed is None else 0


if __name__ == "__main__":
    sys.exit(main())
