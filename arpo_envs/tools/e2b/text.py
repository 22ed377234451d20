"""What the model reads of a remote cell, worded as by the local interpreter: output, value, useful lines of an error."""

import re
from typing import Any

from ..python import Output

CHARACTERS = 8000
"""Longest text of one call; of a longer one, the beginning and end are kept, as in the local interpreter."""
FLOOD = 1_000_000
"""Characters of output after which a cell is stopped: the SDK would keep them all in the host's memory."""

_FRAMES = 6
"""Frames of the cells that are shown; of more, half from the beginning and half from the end."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_CHAINED = re.compile(r"^(?:During handling of the above|The above exception was the direct).*$", re.MULTILINE)
_FRAME = re.compile(r"Cell In\[(\d+)\], line (\d+)(?:, in ([\w.<>]+).*)?$")
_OTHER_FRAME = re.compile(r"^ *File .+:\d+")
_ARROW = re.compile(r"^-+> *\d+ ?(.*)$")


class Flooded(Exception):
    """A cell wrote more than anyone would read."""


class Transcript:
    """Collects what a cell sends, while it runs."""

    def __init__(self) -> None:
        self.error: Any = None
        self._output = Output(CHARACTERS)
        self._written = 0

    def written(self, message: Any) -> None:
        """Takes a piece of standard output or error.

        Raises:
            Flooded: it was too much.
        """
        self._add(message.line)
        self._require_no_flood()

    def shown(self, result: Any) -> None:
        """Takes a value: the cell's last expression, or something displayed.

        Raises:
            Flooded: it was too much.
        """
        self.line(result.text if result.text is not None else f"[{', '.join(result.formats()) or 'nothing'}]")
        self._require_no_flood()

    def failed(self, error: Any) -> None:
        """Takes the error that ended the cell."""
        self.error = error

    def line(self, text: str) -> None:
        """Appends something that begins a line."""
        self._add(f"\n{text}" if self._output.line_is_open else text)

    def text(self) -> str:
        """Returns everything, in the order sent, the error last."""
        if self.error is not None:
            self.line(told(self.error))
            self.error = None
        return self._output.text().rstrip("\n")

    def _add(self, text: str) -> None:
        self._output.write(_COLOURS.sub("", text))
        self._written += len(text)

    def _require_no_flood(self) -> None:
        if self._written > FLOOD:
            raise Flooded


def told(error: Any) -> str:
    """Returns an error without colours, context lines and library frames.

    Args:
        error: the SDK's: `name`, `value`, and the kernel's `traceback`.
    """
    *earlier, last = _CHAINED.split(_COLOURS.sub("", error.traceback or "").strip("\n"))
    lines = [part.strip("\n").rpartition("\n")[2] for part in earlier]
    if lines:
        lines.append("which led to:")
    title = f"{error.name}: {error.value}" if error.value else str(error.name)
    if last.lstrip().startswith("Cell In[") and "-> " not in last:  # it does not parse: the line, and a caret below it
        return "\n".join([*lines, re.sub(r"^\s*Cell In\[(\d+)\], ", r'  File "<cell \1>", ', last)])
    return "\n".join([*lines, *_frames(last.splitlines()), title])


def _frames(lines: list[str]) -> list[str]:
    """Returns a line for each frame of the cells' own code, and one for its source line."""
    frames: list[str] = []
    own = False
    for line in lines:
        if found := _FRAME.search(line):
            own = True
            where = f", in {found[3]}" if found[3] else ""
            frames.append(f'  File "<cell {found[1]}>", line {found[2]}{where}')
        elif _OTHER_FRAME.match(line):
            own = False
        elif own and (found := _ARROW.match(line)):
            own = False
            frames[-1] += f"\n    {found[1].strip()}"
    if len(frames) > _FRAMES:
        half = _FRAMES // 2
        frames = [*frames[:half], f"  … {len(frames) - 2 * half} more frames …", *frames[-half:]]
    return ["Traceback (most recent call last):", *frames] if frames else []
