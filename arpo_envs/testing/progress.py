"""What a person sees during a long check: on standard error, the law it is checking."""

import sys
import threading
import time
from types import TracebackType
from typing import Self

QUIET = 5.0
"""Seconds after which a check that still runs says so, repeatedly."""


class Progress:
    """Says every few seconds which law is being checked; a quick check says nothing.

    Args:
        subject: what is checked.
        total: the number of laws.
    """

    def __init__(self, subject: str, total: int) -> None:
        self._subject, self._total = subject, total
        self._began = time.monotonic()
        self._number, self._law = 0, ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, args=(QUIET,), daemon=True, name="conformance-progress")

    def at(self, law: str) -> None:
        """Records that the next law is now being checked."""
        self._number, self._law = self._number + 1, law

    def __enter__(self) -> Self:
        """Starts the clock."""
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
