"""What strikes the ranks of a learner, from within: in the middle of what they do together, at a moment that is counted.

Ranks are processes of their own that import this, so it imports no test.
"""

import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any, Literal

TENSORS = ("all_gather_single", "reduce_scatter_single", "all_reduce")
OBJECTS = ("all_gather_object", "gather_object", "scatter_object_list")
"""What `torch.distributed` does for ranks that learn, publish, save, and agree on what went wrong."""

Work = Literal["learns", "writes"]
"""Whether a rank exchanges something in the thread that learns, or in the one that writes a checkpoint meanwhile."""


@dataclass(frozen=True)
class Struck:
    """Makes the learners of ranks; at a certain exchange of one of them, some are killed or stopped, and perhaps an engine.

    Args:
        make: makes the learners.
        folder: in which ranks say who they are, and what has happened: once in a run.
        work: which exchanges count.
        at: number of the exchange, from 1; those before there is an engine do not count if one is to be struck.
        sent: signal.
        ranks: numbers of those that get it; the first one counts.
        engines: whether the other workers of the run get it, too.
    """

    make: Any
    folder: Path
    work: Work
    at: int
    sent: int = signal.SIGKILL
    ranks: tuple[int, ...] = (0,)
    engines: bool = False

    @property
    def device(self) -> str:
        found: str = self.make.device
        return found

    def __call__(self, policy: Path, mesh: Any) -> Any:
        import torch.distributed as dist

        number = dist.get_rank()
        (self.folder / f"rank-{number}").write_text(str(os.getpid()), encoding="utf-8")
        dist.barrier()  # each can say where the others are
        if number == self.ranks[0] and not self.happened():
            learns, exchanges = threading.current_thread(), count(1)

            def exchanged() -> None:
                counts = (threading.current_thread() is learns) == (self.work == "learns")
                if counts and (self.others() or not self.engines) and next(exchanges) == self.at:
                    self.strike()

            for name in (*TENSORS, *OBJECTS):
                setattr(dist, name, _counted(getattr(dist, name), exchanged))
        return self.make(policy, mesh)

    def happened(self) -> Mapping[str, list[int]]:
        """Returns which ranks and which engines were struck; nothing as long as none was."""
        if not (self.folder / "struck").exists():
            return {}
        ranks, engines = (self.folder / "struck").read_text(encoding="utf-8").split("\n")
        return {"ranks": [int(pid) for pid in ranks.split()], "engines": [int(pid) for pid in engines.split()]}

    def known(self) -> Mapping[int, int]:
        """Returns the process of each rank."""
        files = self.folder.glob("rank-*")
        return {int(file.name.partition("-")[2]): int(file.read_text(encoding="utf-8")) for file in files}

    def others(self) -> list[int]:
        """Returns the workers of the run that are no ranks: processes that it has started, and that lead a session."""
        return [pid for pid in _workers_of(os.getppid()) if pid not in self.known().values()]

    def strike(self) -> None:
        """Strikes the others first, as this process does nothing afterwards."""
        ranks = [self.known()[number] for number in reversed(self.ranks)]
        engines = self.others() if self.engines else []
        (self.folder / "struck").write_text("\n".join(" ".join(map(str, pids)) for pids in (ranks, engines)), encoding="utf-8")
        for pid in (*engines, *ranks):
            os.kill(pid, self.sent)


def _counted(usual: Callable[..., Any], exchanged: Callable[[], None]) -> Callable[..., Any]:
    @wraps(usual)
    def counted(*given: Any, **more: Any) -> Any:
        exchanged()
        return usual(*given, **more)

    return counted


def _workers_of(parent: int) -> list[int]:
    """Returns the children of a process that lead a session, as workers on this machine do."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            pid, above = int(file.parent.name), int(file.read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            found += [pid] if above == parent and os.getsid(pid) == pid else []
    return found
