"""What a server sent, decompressed up to a limit: what is beyond the limit is never made."""

import zlib
from collections.abc import Iterable, Iterator

from .errors import Passing, Unavailable

ACCEPTED = "gzip, deflate"
"""What a request says about compression; there are ways to stop these two anywhere."""
_PLAIN = ("", "identity")
_COMPRESSED = ("gzip", "x-gzip", "deflate")
_STEP = 1 << 16
_MOST_PIECES = 1 << 17
"""A chunk of one byte costs as much time as one of thousands."""
_EITHER = zlib.MAX_WBITS | 32
"""For zlib: the header says whether it is gzip's."""


def decompressed(pieces: Iterable[bytes], encoding: str, *, most: int, cut: bool = False) -> bytes:
    """Returns a body, decompressed.

    Args:
        pieces: of the body as it was sent; no more are asked for than needed.
        encoding: the header Content-Encoding.
        most: bytes of the result.
        cut: return the beginning of what is longer, instead of raising.

    Raises:
        Unavailable: it is longer, compressed in another way or several times, or broken.
        Passing: it ends in the middle.

    >>> decompressed([zlib.compress(b"abc")], "deflate", most=3)
    b'abc'
    """
    encoding = encoding.strip().lower()
    if encoding not in (*_PLAIN, *_COMPRESSED):
        raise Unavailable("it is compressed in a way that is not read")
    found = bytearray()
    pieces = _counted(pieces)
    for piece in pieces if encoding in _PLAIN else _inflated(pieces):
        found += piece
        if len(found) > most:
            if cut:
                return bytes(found[:most])
            raise Unavailable(f"the page is too large (at most {most} bytes are read)")
    return bytes(found)


def _counted(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for number, piece in enumerate(pieces):
        if number == _MOST_PIECES:
            raise Unavailable("the server sends it in too many pieces")
        yield piece


def _inflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    waiting, inflating = b"", None
    try:
        for piece in pieces:
            waiting += piece
            if inflating is None:
                if len(waiting) < 2:
                    continue
                inflating = zlib.decompressobj(_EITHER if _has_header(waiting) else -zlib.MAX_WBITS)
            while True:
                inflated = inflating.decompress(waiting, _STEP)
                waiting = inflating.unconsumed_tail
                yield inflated
                if inflating.eof:
                    return
                if not waiting and len(inflated) < _STEP:
                    break
    except zlib.error:
        raise Unavailable("it is compressed, and broken") from None
    if inflating is not None or waiting:
        raise Passing("the server broke off")


def _has_header(beginning: bytes) -> bool:
    """Whether compressed data says what it is; some servers send "deflate" without that."""
    first, second = beginning[:2]
    return beginning[:2] == b"\x1f\x8b" or (first & 15 == 8 and (first << 8 | second) % 31 == 0)
