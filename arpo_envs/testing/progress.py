"""What a person sees while a check takes its time: on standard error, which law it is at."""

import sys
import threading
import time
from types import TracebackType
from typing import Self

QUIET = 5.0
"""Seconds after which a check that still runs says so, again and again."""


class Progress:
    """Says every few seconds what a check is at; a quick one says nothing.

    Args:
        subject: what is checked.
        total: laws there are.
    """

    def __init__(self, subject: str, total: int) -> None:
        self._subject, self._total = subject, total
        self._began = time.monotonic()
        self._number, self._law = 0, ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, args=(QUIET,), daemon=True, name="conformance-progress")

    def at(self, law: str) -> None:
        """Takes note that the next law is checked now."""
        self._number, self._law = self._number + 1, law

    def __enter__(self) -> Self:
        """Begins to watch the clock."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends."""
        self._over.set()
        self._thread.join()

    def _tell(self, every: float) -> None:
        while not self._over.wait(every):
            seconds = time.monotonic() - self._began
            sys.stderr.write(f"{self._subject}: {seconds:.0f} s, law {self._number} of {self._total}: {self._law}\n")
            sys.stderr.flush()
