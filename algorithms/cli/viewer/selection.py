"""Which trees come first, so that those that fit into a page are spread over the whole run."""

from collections.abc import Iterator


def spread(count: int) -> Iterator[int]:
    """Yields 0 to `count` - 1, each once; the first few of them, however many, lie at about equal distances.

    Source: van der Corput, Verteilungsfunktionen, 1935: the digits of a count, reversed.

    >>> list(spread(6))
    [0, 4, 2, 1, 5, 3]
    """
    digits = max(count - 1, 0).bit_length()
    for position in range(1 << digits):
        number = int(f"{position:0{digits}b}"[::-1], 2) if digits else 0
        if number < count:
            yield number
