"""What a cell prints: one bounded text for both streams, in the order written."""

import codecs
import io
from typing import Any, BinaryIO, NoReturn

MARK = "\n… [{} characters left out] …\n"
_MARK_ROOM = len(MARK) + 12
_NEWLINES = (None, "", "\n", "\r", "\r\n")


class Output:
    """A text that keeps its beginning and end, however much is written.

    Args:
        limit: characters of the whole text, the mark in the middle included.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head_room = max(1, (limit - _MARK_ROOM) // 2)
        self._tail_room = max(1, limit - _MARK_ROOM - self._head_room)
        self._parts: list[str] = []
        self._kept = 0
        self._tail: str | None = None  # from the first character that does not fit
        self._written = 0

    def write(self, text: str) -> None:
        """Appends to the text."""
        self._written += len(text)
        if self._tail is None and self._kept + len(text) <= self._limit:
            self._parts.append(text)
            self._kept += len(text)
            return
        if self._tail is None:
            whole = "".join(self._parts)
            ahead = text[: max(0, self._head_room - len(whole))]
            self._parts = [whole[: self._head_room] + ahead]
            self._tail = whole[self._head_room :]
            text = text[max(len(ahead), len(text) - self._tail_room) :]  # never a second copy of a huge text
        self._tail = (self._tail + text[-self._tail_room :])[-self._tail_room :]

    @property
    def line_is_open(self) -> bool:
        """Whether the last character written was not a line break."""
        last = self._tail or next((part for part in reversed(self._parts) if part), "\n")
        return not last.endswith("\n")

    def text(self) -> str:
        """Returns the whole text, with a mark that counts what is missing."""
        if self._tail is None:
            return "".join(self._parts)
        missing = self._written - len(self._parts[0]) - len(self._tail)
        return f"{self._parts[0]}{MARK.format(missing)}{self._tail}"


class _Bytes(io.RawIOBase):
    """What `sys.stdout.buffer` is: bytes become text."""

    def __init__(self, stream: "Stream") -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        content = bytes(data)
        self._stream.write(content.decode("utf-8", "backslashreplace"))
        return len(content)

    def close(self) -> None:
        """Does nothing: a later cell prints too."""


class _Standard(io.TextIOBase):
    """What all standard streams have: the attributes of a file's stream, and a `close` without effect."""

    encoding, errors = "utf-8", "backslashreplace"
    line_buffering, write_through = False, False

    def reconfigure(
        self,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        line_buffering: bool | None = None,
        write_through: bool | None = None,
    ) -> None:
        """Records its arguments, for those who ask: text is never encoded here, nor held back.

        Raises:
            LookupError: there is no such encoding or error handler.
            ValueError: that is not a valid line ending.
        """
        if newline not in _NEWLINES:
            raise ValueError(f"illegal newline value: {newline!r}")
        if encoding is not None or errors is not None:
            codecs.lookup(encoding or self.encoding), codecs.lookup_error(errors or "strict")
            self.encoding, self.errors = encoding or self.encoding, errors or "strict"
        if line_buffering is not None:
            self.line_buffering = bool(line_buffering)
        if write_through is not None:
            self.write_through = bool(write_through)

    def close(self) -> None:
        """Does nothing: a later cell prints too, and `exit()` closes the standard input."""


class Stream(_Standard):
    """A standard stream that writes into whatever cell is running.

    Args:
        name: "<stdout>" or "<stderr>".
    """

    def __init__(self, name: str) -> None:
        self.output: Output | None = None
        self.name = name
        self.mode = "w"
        self.buffer = _Bytes(self)

    def detach(self) -> BinaryIO:
        """Returns what takes bytes; this stream stays usable."""
        return self.buffer  # type: ignore[return-value]  # as good as one

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Appends to the running cell's text."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self.output is not None:
            self.output.write(text)
        return len(text)


class NoInput(_Standard):
    """A standard input at which nobody types."""

    name, mode = "<stdin>", "r"

    @property
    def buffer(self) -> "NoInput":
        """What would return bytes, if there were any."""
        return self

    def readable(self) -> bool:
        """True, though there is nothing to read."""
        return True

    def read(self, size: int | None = -1) -> NoReturn:
        """Raises an error: there is nothing to read."""
        raise EOFError("nobody can type here: write the values into the code instead of asking for input")

    readline = readlines = readinto = read
