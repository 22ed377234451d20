"""What is in the process of one of a learner's ranks."""

import asyncio
import os
import pickle
import shutil
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from arpo_envs import ConfigError

from ..rollout import reason
from .parcel import packed, portable, unpacked
from .published import write_published
from .worker import Answer

T = TypeVar("T")

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from ..advantages import Array, Credit, Scores
    from ..algorithm import Aggregation
    from ..learner import LearnerConfig, ShardedLearner, ShardedSnapshot
    from ..losses import Loss
    from ..tree import RolloutTree


class Origin(NamedTuple):
    """Where a learner begins.

    Args:
        policy: folder of the model.
        learner: its state, from `save`; None at the beginning of a run.
    """

    policy: Path
    learner: Path | None = None


class MakeSharded(Protocol):
    """Makes a rank's learner, in the rank itself; it is pickled, so it holds a description of the run, nothing live."""

    @property
    def device(self) -> str:
        """Where ranks compute: cpu or cuda."""
        ...

    def __call__(self, policy: Path, mesh: "DeviceMesh") -> "ShardedLearner":
        """Returns the learner of the model in a folder."""
        ...


class Seat(NamedTuple):
    """The place of one rank among all.

    Args:
        number: from 0 on.
        size: how many there are.
        meeting: file through which they find each other; it does not exist, and nobody else uses it.
        loopback: whether all of them are on this machine, so that nobody else needs to reach them.
        patience: seconds to wait for the others in an exchange.
    """

    number: int
    size: int
    meeting: Path
    loopback: bool
    patience: float


class Batch(NamedTuple):
    """What an update learns from, on its way to ranks."""

    trees: "Sequence[RolloutTree]"
    credit: "Credit"
    scores: "Scores"
    loss: "Loss"
    aggregation: "Aggregation"

    def packed(self) -> bytes:
        """Returns it as one block of bytes.

        Raises:
            ConfigError: the loss cannot be sent.
        """
        import zstandard

        try:
            block = pickle.dumps((packed(self.trees), *self[1:]))
        except Exception as error:  # a loss of another package may refuse in any way
            raise ConfigError(
                f"{self.loss} cannot be sent to another process: {reason(error)}. Define it at the top of a module."
            ) from error
        return zstandard.compress(block)

    @classmethod
    def unpacked(cls, block: bytes) -> "Batch":
        """Returns what `packed` was called on."""
        import zstandard

        trees, *rest = pickle.loads(zstandard.decompress(block))  # from the process that started this one
        return cls(unpacked(trees), *rest)


class Rank:
    """A `ShardedLearner` in a process of its own: every method is called on all ranks alike, and the first one answers.

    What it computes runs in a thread of its own, so that its process gives signs of life meanwhile.

    Args:
        make: makes its learner.
    """

    def __init__(self, make: MakeSharded) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it may reach all processes; the first one saves before it ends
        self._make = make
        self._thread, self._writer = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._joined, self._changed = ExitStack(), ExitStack()
        self._learner: ShardedLearner
        self._snapshot: ShardedSnapshot | None = None
        self._writing: Future[None]

    async def answer(self, method: str, *arguments: Any) -> Answer:
        """Returns what one of the methods below returns or raises, in a form that can be sent."""
        work = partial(getattr(self, method), *arguments)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except Exception as error:  # noqa: BLE001  # it is raised where the call came from
            return Answer(error=portable(error))
        return Answer(found)

    def prepare(self) -> None:
        """Does nothing: whoever answers is there."""

    def begin(self, seat: Seat, origin: Origin) -> tuple[tuple[int, int], "LearnerConfig", float] | None:
        """Joins the others, and makes the learner; returns its place, configuration and temperature."""
        import torch.distributed as dist

        from ..learner import ranks

        os.environ["LOCAL_RANK"] = str(seat.number if seat.loopback else 0)  # Ray shows each its own GPU only
        if seat.loopback and Path("/sys/class/net/lo").exists():
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        store = dist.FileStore(str(seat.meeting), seat.size)  # type: ignore[attr-defined]
        where = {"store": store, "rank": seat.number, "world_size": seat.size, "timeout": timedelta(seconds=seat.patience)}
        mesh = self._joined.enter_context(ranks(self._make.device, **where))
        self._learner = self._make(origin.policy, mesh)
        if origin.learner is not None:
            self._learner.load(origin.learner)
        return self._first((self._learner.place, self._learner.config, self._learner.temperature))

    def meet(self) -> None:
        """Waits for the others, if they were joined: whether ranks that have failed alike can still exchange anything."""
        import torch.distributed as dist

        if dist.is_initialized():
            dist.barrier()

    def place(self) -> tuple[int, int] | None:
        """Returns the learner's place."""
        return self._first(self._learner.place)

    def score(self, trees: bytes, needs: frozenset[str]) -> "Scores | None":
        """See `trainer.Learner`, as for the next."""
        return self._first(self._learner.score(unpacked(trees), needs))

    def update(self, block: bytes) -> tuple[Mapping[str, float], tuple[int, int]] | None:
        """Learns from a packed `Batch`; returns metrics and place."""
        found = self._learner.update(*Batch.unpacked(block))
        return self._first((found, self._learner.place))

    def load(self, folder: Path) -> tuple[int, int] | None:
        """Restores a state; returns the place."""
        self._learner.load(folder)
        return self._first(self._learner.place)

    def save(self, folder: Path) -> None:
        """Writes the state; each rank its own part."""
        self._learner.save(folder)

    def save_model(self, folder: Path) -> None:
        """Writes the model; see `ShardedLearner.save_pretrained`."""
        self._learner.save_pretrained(folder)

    def take(self) -> None:
        """Copies what there is to save; if one rank has no memory for it, none has a copy, and all of them learn on."""
        taken: list[ShardedSnapshot] = []
        self._learner.together(lambda: taken.append(self._learner.snapshot()))
        (self._snapshot,) = taken

    def write(self, what: str, folder: Path) -> None:
        """Begins to write what was copied, with a method of the copy, in another thread; see `written`."""
        self._writing = self._writer.submit(getattr(self._snapshot, what), folder)

    def written(self) -> Answer | None:
        """Returns what became of it, None as long as it is being written."""
        if not self._writing.done():
            return None
        try:
            self._writing.result()
        except Exception as error:  # noqa: BLE001  # ranks answer alike; it is raised where the checkpoint is written
            return self._first(Answer(error=portable(error)))
        return self._first(Answer())

    def drop(self) -> None:
        """Forgets what was copied."""
        self._snapshot = None

    def publish(self, folder: Path) -> None:
        """Writes the weights for engines."""

        def make_room() -> None:
            shutil.rmtree(folder, ignore_errors=True)  # an attempt in which a rank was lost may have left a part
            folder.mkdir(parents=True)

        self._learner.together(make_room, only_first=True)  # before any rank counts on the first one to write with it
        self._learner.together(lambda: write_published(self._learner.weights(), folder, writes=self._learner.is_first))

    def logprobs(self, trees: bytes) -> "tuple[tuple[Array, ...], ...] | None":
        """See `TorchLearner.logprobs`, as for the next."""
        return self._first(self._learner.logprobs(unpacked(trees)))

    def why_not_packable(self, length: int) -> str | None:
        """Returns why trees are trained as flat rows."""
        return self._first(self._learner.why_not_packable(length))

    def own(self, name: str, *arguments: Any) -> Any:
        """Asks the model itself; see `OwnModel`."""
        found = getattr(self._learner.own, name)
        return self._first(found(*arguments) if arguments else found)

    def change(self) -> None:
        """Gives the model other weights, until `restore`."""
        self._changed.enter_context(self._learner.own.changed())

    def restore(self) -> None:
        """Gives the model its own weights again; a learner that was made anew meanwhile has them."""
        self._changed.close()

    def _first(self, found: T) -> T | None:
        return found if self._learner.is_first else None
