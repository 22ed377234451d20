"""What a cell prints: one bounded text for both streams, in the order written."""

import io
from typing import Any, NoReturn

MARK = "\n… [{} characters left out] …\n"
_MARK_ROOM = len(MARK) + 12


class Output:
    """A text that keeps its beginning and its end, however much is written.

    Args:
        limit: characters of the whole text, the mark in the middle included.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head_room = max(1, (limit - _MARK_ROOM) // 2)
        self._tail_room = max(1, limit - _MARK_ROOM - self._head_room)
        self._parts: list[str] = []
        self._kept = 0
        self._tail: str | None = None  # from the first character on that does not fit
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
        """Whether the last character written was no line break."""
        last = self._tail or next((part for part in reversed(self._parts) if part), "\n")
        return not last.endswith("\n")

    def text(self) -> str:
        """Returns the whole, with a mark that counts what is missing."""
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


class Stream(io.TextIOBase):
    """A standard stream that writes into whatever cell is running.

    Args:
        name: "<stdout>" or "<stderr>".
    """

    def __init__(self, name: str) -> None:
        self.output: Output | None = None
        self.name = name
        self.mode = "w"
        self.buffer = _Bytes(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # an attribute of the base class
        """How its bytes would be written."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]  # as above
        """What happens to characters that have no bytes."""
        return "backslashreplace"

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

    def close(self) -> None:
        """Does nothing: a later cell prints too."""


class NoInput(io.TextIOBase):
    """A standard input at which nobody sits."""

    name, mode = "<stdin>", "r"

    def readable(self) -> bool:
        """Yes, in vain."""
        return True

    def read(self, size: int | None = -1) -> NoReturn:
        """Says that there is nothing to read, as an error."""
        raise EOFError("nobody can type here: write the values into the code instead of asking for input")

    readline = read

    def close(self) -> None:
        """Does nothing: `exit()` closes the standard input."""
