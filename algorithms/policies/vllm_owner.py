"""How vLLM's processes are started, so that they can know the process that owns their engine; see `vllm_ending`."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path

OWNER, WEIGHTS = "ARPO_VLLM_OWNER", "ARPO_VLLM_WEIGHTS"
"""Environment variables of an engine's processes: who has started it, and its temporary folder; see `vllm_ending`."""


@contextmanager
def engine_processes(temporary: Path | None) -> Iterator[None]:
    """Starts processes that end with this one (see `vllm_ending`), but that neither Ctrl-C nor the end of a terminal reaches.

    A terminal sends both to all of them, and the engine would end at once, before this process has finished its step.

    Args:
        temporary: this process's folder for weights, if it has a temporary one; they remove it if this process cannot.
    """
    resource_tracker.ensure_running()  # otherwise it is started inside, and lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    told = {OWNER: str(os.getpid())} | ({} if temporary is None else {WEIGHTS: str(temporary)})
    os.environ.update(told)
    try:
        yield
    finally:
        for name in told:
            del os.environ[name]
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
