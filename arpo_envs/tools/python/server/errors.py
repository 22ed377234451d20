"""What a model reads of an exception: its own lines, and the error; nothing of libraries, nothing of this machine."""

import linecache
import traceback
from types import TracebackType

PREFIX = "<cell "
_FRAMES = 6
"""Frames of the cells that are shown; of more, half from the beginning and half from the end."""
_CHAIN = 3
"""Earlier exceptions that are shown, one line each."""
_SOURCE = 200
"""Characters of a source line that are shown."""


def describe(error: BaseException) -> str:
    """Returns a short traceback that ends with "ValueError: …" and a line break.

    Args:
        error: any exception, even one whose own methods fail.
    """
    lines = [f"{last_line(earlier)}\n" for earlier in _chain(error)]
    if lines:
        lines.append("which led to:\n")
    return "".join(lines + _frames(error.__traceback__) + _final(error))


def last_line(error: BaseException) -> str:
    """Returns the line that names an exception: "ValueError: …"."""
    lines = _final(error)
    return (lines[-1] if isinstance(error, SyntaxError) else "".join(lines)).rstrip("\n")


def _chain(error: BaseException) -> list[BaseException]:
    """Returns the exceptions that led to this one, the earliest first."""
    found: list[BaseException] = []
    seen = {id(error)}
    current: BaseException | None = error
    while current is not None and len(found) < _CHAIN:
        earlier = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        if earlier is None or id(earlier) in seen:
            break
        seen.add(id(earlier))
        found.append(earlier)
        current = earlier
    return found[::-1]


def _frames(trace: TracebackType | None) -> list[str]:
    """Returns the lines of the frames that belong to cells."""
    own: list[tuple[str, int, str]] = []
    skipped = 0
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename.startswith(PREFIX):
            if len(own) >= _FRAMES:
                own.pop(_FRAMES // 2)
                skipped += 1
            own.append((code.co_filename, trace.tb_lineno, code.co_name))
        trace = trace.tb_next
    lines = ["Traceback (most recent call last):\n"] if own else []
    for number, (file, line, name) in enumerate(own):
        if skipped and number == _FRAMES // 2:
            lines.append(f"  … {skipped} more frames …\n")
        where = "" if name == "<module>" else f", in {name}"
        source = linecache.getline(file, line).strip()
        lines.append(f'  File "{file}", line {line}{where}\n')
        lines += [f"    {source[:_SOURCE]}\n"] if source else []
    return lines


def _final(error: BaseException) -> list[str]:
    try:
        return traceback.format_exception_only(error)
    except Exception:  # noqa: BLE001  # the exception's own methods may fail in any way
        return [f"{type(error).__name__}\n"]
