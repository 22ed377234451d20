"""What vLLM's processes import so that they end with the one that started their engine, also if that is killed.

vLLM's engine core would wait for requests for ever, and keep the device; weights on their way would stay in a folder that
nobody else knows. It imports the extension of its workers, which `worker_extension_cls` names, before it reads the model; where
its workers are processes of their own, these end it. Nobody else imports this: in a forked process it would be imported
already, and its last lines would not run.
"""

import multiprocessing
import os
import select
import shutil
import signal
import threading
from contextlib import suppress

from .vllm_owner import OWNER, WEIGHTS


class Extension:
    """Adds nothing to a worker; see above."""


def _end_with(owner: int) -> None:
    """Ends this process as soon as another one has ended, for which a thread waits."""
    try:
        descriptor = os.pidfd_open(owner)
    except ProcessLookupError:
        _end(owner)
    except (AttributeError, OSError):  # not Linux, or the kernel refuses
        return
    threading.Thread(target=_wait, args=(descriptor, owner), daemon=True).start()


def _wait(descriptor: int, owner: int) -> None:
    ended = select.poll()  # unlike `select.select`, for a descriptor of any number
    ended.register(descriptor, select.POLLIN)
    ended.poll()
    _end(owner)


def _end(owner: int) -> None:
    core = multiprocessing.parent_process()
    if core is not None and core.pid is not None and core.pid != owner and core.is_alive():
        with suppress(ProcessLookupError):
            os.kill(core.pid, signal.SIGKILL)
    if WEIGHTS in os.environ:
        shutil.rmtree(os.environ[WEIGHTS], ignore_errors=True)  # several workers may try
    os.kill(os.getpid(), signal.SIGKILL)


if OWNER in os.environ:
    _end_with(int(os.environ[OWNER]))
