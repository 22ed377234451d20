"""`arpo train` that is killed at a moment of its own work: `python disaster_driver.py PLACE NUMBER [both] -- ARGUMENTS`.

The moment is the NUMBER-th time that something at PLACE begins; with `both`, a worker is killed with it.
"""

import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from algorithms import durable
from algorithms.cli import main
from algorithms.cluster.collector import _Batch
from algorithms.cluster.engines import Engines
from algorithms.learner import TorchLearner

PLACES: Mapping[str, tuple[Any, str]] = {
    "prompts": (_Batch, "_finish"),  # some came back from a worker; others are under way
    "weights": (Engines, "load"),
    "update": (TorchLearner, "update"),
    "disk": (durable, "sync"),  # a file of a checkpoint is flushed
}


def strike(place: str, number: int, *, both: bool) -> None:
    home, name = PLACES[place]
    usual, calls = getattr(home, name), itertools.count(1)

    def struck(*given: Any, **options: Any) -> Any:
        if next(calls) == number:
            for worker in multiprocessing.active_children()[:both]:
                worker.kill()
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(*given, **options)

    setattr(home, name, struck)


if __name__ == "__main__":
    end = sys.argv.index("--")
    strike(sys.argv[1], int(sys.argv[2]), both="both" in sys.argv[3:end])
    sys.exit(main(sys.argv[end + 1 :]))
