"""What was computed last, up to a number of characters: pages differ in size by a factor of thousands."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import wraps
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")
_EACH = 1000
"""Characters that a result counts for besides its own, so that empty ones are not kept without end."""


def kept(
    most: int, *, key: Callable[[A], Hashable], size: Callable[[R], int]
) -> Callable[[Callable[[A], R]], Callable[[A], R]]:
    """Returns a decorator that keeps what a function of one argument returned last.

    Args:
        most: characters that all results may have together; one that has more by itself is not kept.
        key: what tells an argument from others; it is kept, too.
        size: characters of a result.

    >>> asked = []
    >>> @kept(2500, key=str, size=len)
    ... def doubled(text: str) -> str:
    ...     asked.append(text)
    ...     return 2 * text
    >>> [doubled(text) for text in ("a", "b", "a", "c", "b")]
    ['aa', 'bb', 'aa', 'cc', 'bb']
    >>> asked
    ['a', 'b', 'c', 'b']
    """

    def decorated(function: Callable[[A], R]) -> Callable[[A], R]:
        results: OrderedDict[Hashable, tuple[R, int]] = OrderedDict()
        lock, total = threading.Lock(), 0

        @wraps(function)
        def call(given: A) -> R:
            nonlocal total
            name = key(given)
            with lock:
                if name in results:
                    results.move_to_end(name)
                    return results[name][0]
            result = function(given)  # outside of the lock: threads read different pages at the same time
            own = size(result) + _EACH
            with lock:
                if name not in results and own <= most:
                    results[name] = result, own
                    total += own
                while total > most:
                    total -= results.popitem(last=False)[1][1]
            return result

        return call

    return decorated
