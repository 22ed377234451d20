"""Failures while trees grow: each distinct one is reported when it first happens, and only counted from then on.

A tool that is down fails in every path. Its hundredth failure says nothing that the first one did not.
"""

import logging
import re
import traceback
from collections import Counter
from collections.abc import Callable

from arpo_envs import ToolFault, ToolLost

log = logging.getLogger(__name__)

_LONGEST = 400
"""Maximum characters of a reason; a tool may raise with a whole page in its message."""
_VARIES = re.compile(r"0x[0-9a-f]+|\d+")


def reason(error: BaseException) -> str:
    r"""Returns an error in one line of at most a few hundred characters.

    >>> reason(ValueError("no such page\nline 2"))
    'ValueError: no such page line 2'
    >>> reason(TimeoutError())
    'TimeoutError'
    """
    said = " ".join(_said(error).split())
    whole = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return whole if len(whole) <= _LONGEST else whole[: _LONGEST - 1] + "…"


def is_lost(error: BaseException) -> bool:
    """Whether something failed because what a tool works with is gone, so that another attempt may succeed.

    Another fault of a tool is final, even if a loss is its cause: a recorder, for one, tells the same in every attempt.

    >>> from arpo_envs import CloneError, ToolLost
    >>> is_lost(ToolLost("no answer")), is_lost(CloneError("no copy"))
    (True, False)
    """
    if isinstance(error, ToolFault):
        return isinstance(error, ToolLost)
    return error.__cause__ is not None and is_lost(error.__cause__)


def _said(error: BaseException) -> str:
    try:
        # a tool's message may contain lone surrogates, which no file or terminal accepts
        return str(error).encode("utf-8", "replace").decode("utf-8")
    except Exception:  # noqa: BLE001  # an error whose message cannot be made is still an error
        return ""


def _log(what: str, error: BaseException) -> None:
    log.warning("%s: %s; others like it are counted.", what, reason(error), exc_info=error)


class Failures:
    """Reports each distinct failure once, and counts all of them.

    Two failures are the same if they happened to the same kind of thing, have the same type, and their messages differ only
    in numbers.

    Args:
        tell: called with what failed and the error, the first time; by default they are logged, with the traceback.

    >>> failures = Failures(lambda what, error: print(what, error))
    >>> for page in (3, 4, 4):
    ...     failures.note("tool_fault", KeyError(f"page {page}"))
    tool_fault 'page 3'
    >>> failures.counted()
    [('tool_fault', "KeyError: 'page 3'", 3)]
    """

    def __init__(self, tell: Callable[[str, BaseException], None] = _log) -> None:
        self._tell = tell
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first: dict[tuple[str, str], str] = {}

    def note(self, what: str, error: BaseException, count: int = 1) -> None:
        """Counts a failure, and reports it if it is the first of its kind.

        Args:
            what: what failed, in a word: the status of a leaf, or what was tried.
            error: why.
            count: how many leaves it costs.
        """
        why = reason(error)
        kind = (what, _VARIES.sub("#", why))
        self._counts[kind] += count
        if kind not in self._first:
            self._first[kind] = why
            self._tell(what, error)

    def counted(self) -> list[tuple[str, str, int]]:
        """Returns (what failed, the first reason, how often) for each distinct failure, the most frequent first."""
        return [(kind[0], self._first[kind], count) for kind, count in self._counts.most_common()]


def place(error: BaseException) -> str:
    """Returns where an error was raised, as "file.py:12"; "" if nobody raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
