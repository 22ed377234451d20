"""How vLLM's processes are started, so that they can know the process that owns their engine; see `vllm_ending`."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

OWNER = "ARPO_VLLM_OWNER"
"""Environment variable of an engine's processes: the one that has started it; see `vllm_ending`."""


@contextmanager
def engine_processes() -> Iterator[None]:
    """Starts processes that end with this one (see `vllm_ending`), but that neither Ctrl-C nor the end of a terminal reaches.

    A terminal sends both to all of them, and the engine would end at once, before this process has finished its step.
    """
    resource_tracker.ensure_running()  # otherwise it is started inside, and lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    os.environ[OWNER] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[OWNER]
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
