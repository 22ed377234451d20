"""`python -m algorithms.cli.tied PID …`: an `arpo` command that ends with the process PID that started it, even if killed."""

import ctypes
import os
import signal
import sys

from . import main

_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Asks Linux for SIGTERM when the parent ends, after which `arpo train` saves; elsewhere the process goes on alone.

    Args:
        parent: its process id.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it has ended already
            os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    raise SystemExit(main(sys.argv[2:]))
