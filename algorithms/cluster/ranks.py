"""The learner's stand-in in the process of the trainer: the model lies on ranks, each in a process of its own.

An update is a function of the learner's state and of what it is given. So where a rank is lost, all are made anew from the
newest checkpoint, and take the updates since then once more, from the same trees; nothing is drawn again, and the weights are
the same.
"""

import asyncio
import math
import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .engines import Patience
from .held_on_ranks import SnapshotOnRanks, WeightsOnRanks
from .launcher import Launcher, Lost, watched
from .leftovers import MEETING, clear_ranks
from .parcel import packed
from .rank import Batch, MakeSharded, Origin, Rank, Seat
from .rank_faults import LostForGood, about_the_run, what_counts

if TYPE_CHECKING:
    from ..advantages import Array, Credit, Scores
    from ..algorithm import Aggregation
    from ..learner import LearnerConfig
    from ..losses import Loss
    from ..models.own import OwnModel
    from ..tree import RolloutTree

T = TypeVar("T")

_AS_LONG_AS_THE_BATCH = frozenset({"update", "score", "logprobs"})
"""What a rank may take any time for, as long as it gives signs of life: how much there is to do is the run's choice."""


class Ranks:
    """The processes of a learner: started together, called alike, and ended together.

    Args:
        launcher: says where they run; nobody else uses it.
        make: makes the learner of each.
        count: how many there are.
        home: a folder that all of them see; what they leave there is removed.
        patience: how long to wait for them.
        tell: is told what happens to them, in a line.
        show: is told how many of them are alive, and of how many, whenever that changes.
        loopback: whether they are all on this machine.
    """

    def __init__(
        self,
        launcher: Launcher,
        make: MakeSharded,
        count: int,
        home: Path,
        *,
        patience: Patience = Patience(),
        tell: Callable[[str], None] = lambda line: None,
        show: Callable[[int, int], None] = lambda alive, count: None,
        loopback: bool = True,
    ) -> None:
        self.patience, self.tell, self.home = patience, tell, home
        self._launcher, self._make, self._count, self._loopback = launcher, make, count, loopback
        self._show = show
        self._workers: list[Any] = []
        self.begun = 0
        """How often they were started."""
        clear_ranks(home)  # what a run that was killed has left
        home.mkdir(parents=True, exist_ok=True)
        self._is_closing, self._entry = False, threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @property
    def are_there(self) -> bool:
        """Whether the ranks are started, and none of them was lost."""
        return bool(self._workers)

    def begin(self, origin: Origin) -> Any:
        """Starts all ranks; returns what `Rank.begin` returns. See `call` for errors."""
        return self._run(self._begin(origin))

    def call(self, method: str, *arguments: Any) -> Any:
        """Has all ranks do the same; returns what the first one returns.

        Raises:
            Lost: one of them was lost, or failed in a way in which the others did not; all are ended.
            ConfigError: the parts of the run do not fit together. If not all ranks say so, all are ended; as for the next.
            Diverged: too many gradients in a row were not finite.
            Exception: what the method raised on all ranks alike.
        """
        return self._run(self._everywhere(method, [arguments] * self._count))

    def close(self) -> None:
        """Ends all ranks and removes what was left behind; a second call does nothing."""
        if not self._loop.is_closed():
            self._run(self._end(), last=True)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            clear_ranks(self.home)

    def _run(self, work: Coroutine[Any, Any, T], *, last: bool = False) -> T:
        """Returns what a coroutine returns in the loop of the ranks: the caller's own one waits, as for any other learner.

        Raises:
            LostForGood: `close` was called: an update in another thread may outlive the run.
        """
        with self._entry:
            if self._is_closing and not last:
                work.close()
                raise LostForGood("The ranks of the learner are being ended.")
            self._is_closing = last
            running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()  # a signal may have come
            raise

    async def _begin(self, origin: Origin) -> Any:
        self.begun += 1
        # ranks of a run that was killed may still look for each other
        meeting = self.home / f"{MEETING}{self.begun}-{secrets.token_hex(4)}"
        try:
            for _ in range(self._count):
                self._workers.append(self._launcher.create(self._make, Rank))
        except Exception:
            await self._kill([])
            raise
        # while it imports, there is nothing to be seen of it
        await self._everywhere("prepare", [()] * self._count, look=self.patience.start, silence=0.0)
        where = (self._count, meeting.absolute(), self._loopback, self.patience.exchange)
        found = await self._everywhere("begin", [(Seat(number, *where), origin) for number in range(self._count)])
        self._show(self._count, self._count)
        return found

    async def _everywhere(
        self, method: str, arguments: Sequence[tuple[Any, ...]], look: float | None = None, silence: float | None = None
    ) -> Any:
        if not self._workers:
            raise Lost("Its ranks are not there.")
        limits: dict[str, Any] = {
            "look": self.patience.look if look is None else look,
            "silence": self.patience.silence if silence is None else silence,
            "longest": math.inf if method in _AS_LONG_AS_THE_BATCH else self.patience.request,
            "tell": self._slow(method),
        }
        pairs = zip(self._workers, arguments, strict=True)
        calls = [asyncio.ensure_future(watched(self._launcher, worker, method, *given, **limits)) for worker, given in pairs]
        try:
            failed, open_ = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
            if open_:  # they wait for the one that failed, or are about to fail alike
                _, open_ = await asyncio.wait(open_, timeout=self.patience.silence)
            ended = sorted((call for call in calls if call.done()), key=lambda call: call not in failed)
            errors = [error for call in ended if (error := call.exception()) is not None]
        except asyncio.CancelledError:
            await self._kill(calls)
            raise
        if errors:
            alike = len(errors) == len(calls) and len({(type(error), str(error)) for error in errors}) == 1
            fault = what_counts(errors, alike=alike and method != "meet")
            if isinstance(fault, Lost) or not alike:
                await self._kill(calls)
            elif not isinstance(fault, about_the_run()):
                await self._everywhere("meet", [()] * self._count)  # two that cannot reach each other fail alike
            raise fault
        return calls[0].result()

    async def _kill(self, calls: Sequence["asyncio.Future[Any]"]) -> None:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        for worker in self._workers:
            self._launcher.kill(worker)
        self._workers = []
        self._show(0, self._count)

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for worker in self._workers:
            self._launcher.kill(worker)  # none of them holds anything that is not elsewhere
        self._workers = []
        await self._launcher.close()

    def _slow(self, method: str) -> Callable[[float], None]:
        told: list[float] = []

        def tell(seconds: float) -> None:
            if seconds >= self.patience.slow and not told:
                told.append(seconds)
                self.tell(f"the learner is slow: {seconds:.0f} s so far ({method})")

        return tell


class RankedLearner:
    """Stands for the learner whose model lies on ranks; see `trainer.Learner` and `TorchLearner`.

    This process holds no weights, only what was learned from since the last but one checkpoint.

    Args:
        ranks: not started yet.
        origin: where to begin.
        newest: returns the newest checkpoint of the run, or where it began.

    Raises:
        ConfigError: the model cannot be trained like this, or not on several ranks; no process is left.
        Lost: the ranks could not be started.
    """

    def __init__(self, ranks: Ranks, origin: Origin, newest: Callable[[], Origin]) -> None:
        self._ranks, self._newest = ranks, newest
        self._since: dict[int, bytes] = {}
        """What was learned from, by the number of the update."""
        self._saved = 0
        """How many updates the newest state on the disk has."""
        self._written: dict[tuple[int, int], Path] = {}
        """Where the ranks have written the weights of a place, of the last one only."""
        self._given_up: LostForGood | None = None
        self._one_at_a_time = threading.Lock()
        """Weights may be on their way to engines in another thread when a signal makes the run save."""
        try:
            found: tuple[tuple[int, int], LearnerConfig, float] = ranks.begin(origin)
            self._place, self.config, self.temperature = found
        except BaseException:
            ranks.close()
            raise
        from .own_on_ranks import OwnOnRanks  # only where something is trained is there torch

        self._own = OwnOnRanks(self._ask)
        self.own: OwnModel = self._own

    @property
    def place(self) -> tuple[int, int]:
        """How many optimizer steps were taken and how many updates finished."""
        return self._place

    def score(self, trees: "Sequence[RolloutTree]", needs: frozenset[str]) -> "Scores":
        """Returns what the algorithm needs from reference and value head."""
        from ..advantages import Scores

        if not needs:
            return Scores()
        found: Scores = self._ask("score", packed(trees), needs)
        return found

    def update(
        self,
        trees: "Sequence[RolloutTree]",
        credit: "Credit",
        scores: "Scores",
        loss: "Loss",
        aggregation: "Aggregation",
    ) -> Mapping[str, float]:
        """Takes an update on all ranks; see `TorchLearner.update`.

        Raises:
            Diverged: too many gradients in a row were not finite; the weights are those of the last good step.
            LostForGood: the ranks were lost, as often as it was tried.
        """
        from ..learner import Diverged

        block = Batch(trees, credit, scores, loss, aggregation).packed()
        try:
            metrics, place = self._ask("update", block)
        except Diverged:
            self._place = self._ask("place")  # some steps may have been taken
            raise
        self._since[self._place[1]] = block
        self._place = place
        return dict(metrics)

    def logprobs(self, trees: "Sequence[RolloutTree]") -> "tuple[tuple[Array, ...], ...]":
        """Returns log-probabilities of each leaf's tokens; see `TorchLearner.logprobs`."""
        found: tuple[tuple[Array, ...], ...] = self._ask("logprobs", packed(trees))
        return found

    def why_not_packable(self, length: int) -> str | None:
        """Returns why trees with paths of up to `length` tokens are trained as flat rows; None if they are packed."""
        found: str | None = self._ask("why_not_packable", length)
        return found

    def weights(self) -> "WeightsOnRanks":
        """Returns the weights, which the ranks write where engines read them."""
        return WeightsOnRanks(self._publish, lambda: self._written.get(self._place), self._ranks.home)

    def save(self, folder: Path) -> None:
        """Writes everything but the weights; each rank its own part."""
        self._ask("save", folder.absolute())

    def snapshot(self) -> SnapshotOnRanks:
        """Has all ranks copy what there is to save; they write it while they learn. See `TorchLearner.snapshot`."""
        with self._one_at_a_time:
            self._tried("take")
            return SnapshotOnRanks(partial(self._ask_those, self._ranks.begun))

    def saved(self, updates: int) -> None:
        """Is told that a checkpoint is whole: what led to the one before it need not be learned once more.

        Args:
            updates: that it has, see `place`; it may be told of one several times.
        """
        if updates == self._saved:
            return
        before, self._saved = self._saved, updates
        for number in [number for number in self._since if number < before]:
            del self._since[number]  # only before the last but one, as the newest may turn out to be damaged

    def save_pretrained(self, folder: Path) -> None:
        """Writes the model's part of a Hugging Face folder."""
        self._ask("save_model", Path(folder).absolute())

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote, on any number of ranks."""
        self._place = self._ask("load", folder.absolute())
        self._saved = self._place[1]
        self._since, self._written = {}, {}

    def close(self) -> None:
        """Ends the ranks."""
        self._ranks.close()

    def _publish(self, folder: Path) -> None:
        """Has the ranks write the weights for engines, and remembers where; not of weights that `changed` gave them."""
        with self._one_at_a_time:
            self._tried("publish", folder)
            self._written = {} if self._own.is_changed else {self._place: folder}

    def _ask(self, method: str, *arguments: Any) -> Any:
        """Has all ranks do something; if they are lost, they are made anew and asked again."""
        with self._one_at_a_time:
            return self._tried(method, *arguments)

    def _ask_those(self, begun: int, method: str, *arguments: Any) -> Any:
        """Has the ranks that were begun so often do something; others know nothing of it.

        Raises:
            Lost: they are gone.
        """
        with self._one_at_a_time:
            if not self._ranks.are_there or self._ranks.begun != begun:
                raise Lost("A rank of the learner was lost meanwhile.")
            try:
                return self._ranks.call(method, *arguments)
            except Lost as error:
                self._ranks.tell(f"a rank of the learner was lost: {error}")
                raise

    def _tried(self, method: str, *arguments: Any) -> Any:
        if self._given_up is not None:
            raise self._given_up
        fault = Lost("Nothing was tried.")
        for attempt in range(self._ranks.patience.attempts):
            try:
                if not self._ranks.are_there:
                    time.sleep(self._ranks.patience.pause * attempt)
                    self._make_anew()
                return self._ranks.call(method, *arguments)
            except Lost as error:
                self._ranks.tell(f"a rank of the learner was lost: {error}")
                fault = error
        self._given_up = LostForGood(
            f"The ranks of the learner were lost {self._ranks.patience.attempts} times in a row. {fault} The newest checkpoint "
            "is whole: continue from there with --resume."
        )
        raise self._given_up

    def _make_anew(self) -> None:
        """Starts the ranks from the newest checkpoint, and takes the updates since then once more.

        Raises:
            Lost: they were lost again.
            LostForGood: they do not come to where they were, and are not used any more.
        """
        place = self._ranks.begin(self._newest())[0]
        missing = range(place[1], self._place[1])
        for number in missing:
            if number in self._since:
                place = self._ranks.call("update", self._since[number])[1]
        if place != self._place:
            self._given_up = LostForGood(
                f"The ranks of the learner were made anew at {place}, and had been at {self._place} (optimizer steps, "
                "updates). The newest checkpoint is whole: continue from there with --resume."
            )
            raise self._given_up
        if self._own.is_changed:
            self._ranks.call("change")
        self._ranks.tell(f"the learner's ranks were made anew, and took {len(missing)} updates once more")
