"""A learner on several ranks learns what one process learns, whatever happens to the processes; and what is refused."""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_toys import Counting
from test_cli_train import exit_status, said

from algorithms.advantages import Credit, Scores
from algorithms.cli.config import TrainConfig
from algorithms.cli.parts import assemble
from algorithms.cluster import Lost, LostForGood, Origin, Patience, RankedLearner, Ranks
from algorithms.cluster.local import LocalLauncher
from algorithms.cluster.rank import Batch, Rank
from algorithms.cluster.worker import Answer
from algorithms.learner import Diverged, LearnerConfig
from algorithms.learner.on_ranks import OnRanks
from algorithms.losses.clip import ClipLoss
from algorithms.tree import RolloutTree
from arpo_envs import ConfigError

pytestmark = pytest.mark.usefixtures("wide_terminal")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--learners", "2"], "--learners 2 needs --cluster local or --cluster ray."),
        (["--cluster", "local", "--learners", "0"], "learners must be at least 1, got 0."),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(["train", "--dry-run", *words]) == 2
    assert why in said(capsys)


def test_ranks_are_ended_if_engines_are_refused(tiny_policy: Path, tmp_path: Path) -> None:
    words = {"policy": str(tiny_policy), "cluster": "local", "learners": 2, "output": tmp_path}
    counting = Counting(iter([]))

    def engines(config: TrainConfig, folder: Path, dialect: str) -> Any:
        assert counting.home.is_dir()
        raise ConfigError("There is no room.")

    def ranks(config: TrainConfig, start: Path, policy: Path) -> RankedLearner:
        return RankedLearner(counting, Origin(policy), lambda: Origin(policy))  # type: ignore[arg-type]

    with pytest.raises(ConfigError, match="There is no room"):
        asyncio.run(assemble(TrainConfig.of(words).resolved(), tiny_policy, engines=engines, ranks=ranks))
    assert not counting.home.exists(), "they are closed"


# --- whatever happens, with a learner that counts ------------------------------------------------------------------


def learn(learner: RankedLearner, step: int) -> dict[str, Any]:
    tree = RolloutTree(f"step {step}", {}, frozen=True)
    return dict(learner.update([tree], Credit((), ()), Scores(), ClipLoss(), "token"))


@settings(max_examples=60, deadline=None)
@given(
    fates=st.lists(st.sampled_from(["", "before", "after"]), max_size=20),
    every=st.integers(1, 4),
    damaged=st.booleans(),
    full=st.sets(st.integers(0, 9)),
    beside=st.booleans(),
)
def test_nothing_is_learned_twice_or_left_out(
    fates: list[str], every: int, damaged: bool, full: set[int], beside: bool
) -> None:
    """Checkpoints are saved at once, or while one more step is taken; `damaged`: whether the one before the newest is used.

    In steps that are `full`, there is no room to save.
    """
    saved: list[Path | None] = [None, None]
    ranks = Counting(iter(fates), attempts=len(fates) + 1)
    with closing(RankedLearner(ranks, Origin(Path()), lambda: Origin(Path(), saved[-1 - damaged]))) as learner:  # type: ignore[arg-type]
        step = 0
        while step < 9:
            assert learn(learner, step) == {"loss": step + 1.0}
            step += 1
            assert learner.place == (2 * step, step)
            if step % every == 0:
                file, updates = ranks.home / f"{step}", step
                if beside:
                    with learner.snapshot() as copy, suppress(Lost):
                        learn(learner, step)
                        step += 1
                        copy.save(file)
                else:
                    learner.save(file)
                if step not in full and file.exists():
                    saved.append(file)
                    for _ in range(2):  # who waits may be told so again
                        learner.saved(updates)
        learner.save(ranks.home / "end")
        assert ranks.learned == [f"step {number}" for number in range(step)]
        if not full and not fates:
            assert len(learner._since) <= 2 * every + 1, "what was learned from is dropped when it is saved for good"


@settings(max_examples=60, deadline=None)
@given(struck=st.dictionaries(st.integers(0, 15), st.sampled_from(["before", "after"]), min_size=1, max_size=4))
def test_the_model_has_other_weights_as_long_as_it_shall_whatever_happens_to_ranks(struck: dict[int, str]) -> None:
    """An engine is given these weights and compared with the model: ranks with their own would refuse a run that is right."""
    ranks = Counting((struck.get(number, "") for number in range(16)), attempts=5)
    with closing(RankedLearner(ranks, Origin(Path()), lambda: Origin(Path()))) as learner:  # type: ignore[arg-type]
        assert learner.own.config == "own"
        for _ in range(2):
            with learner.own.changed():
                assert [learner.own.config for _ in range(3)] == ["changed"] * 3
            assert learner.own.config == "own"


def test_ranks_that_are_lost_again_and_again_end_the_run() -> None:
    ranks = Counting(iter(["", "before", "after", "before"]))
    with closing(RankedLearner(ranks, Origin(Path()), lambda: Origin(Path()))) as learner:  # type: ignore[arg-type]
        learn(learner, 0)
        for _ in range(2):  # and nobody waits for them once more
            with pytest.raises(LostForGood, match=r"lost 3 times in a row\. Struck before\. The newest checkpoint is whole"):
                learn(learner, 1)
        assert learner.place == (2, 1)


def test_ranks_that_come_back_elsewhere_are_not_used(tmp_path: Path) -> None:
    ranks = Counting(iter(["", "", "before"]))
    with closing(RankedLearner(ranks, Origin(Path()), lambda: Origin(Path(), tmp_path / "later"))) as learner:  # type: ignore[arg-type]
        learn(learner, 0)
        learner.save(tmp_path / "later")
        ranks.learned.append("of another run")
        ranks._save(tmp_path / "later")
        with pytest.raises(LostForGood, match=r"made anew at \(4, 2\), and had been at \(2, 1\)"):
            learn(learner, 1)
        with pytest.raises(LostForGood, match="made anew at"):
            learner.save(tmp_path / "never")
        assert not (tmp_path / "never").exists()


def test_a_loss_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot be sent to another process: .*Define it at the top of a module"):
        Batch([], Credit((), ()), Scores(), lambda inputs: None, "token").packed()  # type: ignore[arg-type, return-value]


class Copying(OnRanks):
    """A learner of two, in threads; the second one has no memory for a copy."""

    def __init__(self, number: int, told: list[Any], meeting: threading.Barrier) -> None:
        self.number, self.told, self.meeting = number, told, meeting

    @property
    def is_first(self) -> bool:
        return self.number == 0

    def snapshot(self) -> object:
        if self.number == 1:
            raise MemoryError("for a copy")
        return object()

    def _gathered(self, found: Any) -> list[Any]:
        self.told[self.number] = found
        self.meeting.wait(30.0)
        return [*self.told]


def test_a_rank_without_memory_for_a_copy_fails_as_all_do_so_that_none_is_made_anew() -> None:
    told, meeting = [None, None], threading.Barrier(2)

    async def run() -> None:
        ranks = [await asyncio.to_thread(Rank, None) for _ in range(2)]  # type: ignore[arg-type]
        for number, rank in enumerate(ranks):
            rank._learner = Copying(number, told, meeting)  # type: ignore[assignment]
        answers = await asyncio.gather(*(rank.answer("take") for rank in ranks))
        assert [repr(answer.error) for answer in answers] == ["MemoryError('for a copy')"] * 2
        assert [rank._snapshot for rank in ranks] == [None, None], "no memory is held for nothing"
        for rank in ranks:
            rank._thread.shutdown()

    asyncio.run(run())


# --- ranks that are called alike -----------------------------------------------------------------------------------


@dataclass
class Numbered:
    """Keeps ranks in this process; each does what is said of its number.

    Args:
        does: by number: what a call returns, an error that it raises, "mute" or "dead"; otherwise the number.
    """

    does: Mapping[int, Any]
    alive: list[int] = field(default_factory=list)
    closed: bool = False
    asked: list[int] = field(default_factory=list)
    """Who was asked for an update, in order."""

    def create(self, make: Any, kind: Any) -> int:
        self.alive.append(len(self.alive))
        return self.alive[-1]

    async def call(self, worker: int, method: str, *arguments: Any) -> Answer:
        does = self.does.get(worker, worker) if method == "update" else worker
        self.asked += [worker] if method == "update" else []
        if does == "dead":
            raise Lost("It is dead.")
        if does == "mute":
            await asyncio.sleep(60.0)
        return Answer(error=does) if isinstance(does, Exception) else Answer(does)

    async def health(self, worker: int, within: float) -> bool:
        return self.does.get(worker) != "mute"

    def kill(self, worker: int) -> None:
        if worker in self.alive:
            self.alive.remove(worker)

    async def close(self) -> None:
        self.closed = True


FAULTY = RuntimeError("a connection was closed")


@pytest.mark.parametrize(
    ("does", "raised", "left"),
    [
        ({}, None, 3),
        ({number: Diverged("too large") for number in range(3)}, Diverged, 3),
        ({1: Diverged("too large")}, Diverged, 0),
        ({0: FAULTY, 1: Diverged("too large"), 2: FAULTY}, Diverged, 0),
        (dict.fromkeys(range(3), FAULTY), RuntimeError, 3),
        ({1: FAULTY}, Lost, 0),
        ({0: FAULTY, 1: FAULTY, 2: OSError("a socket")}, Lost, 0),
        ({0: FAULTY, 1: "dead", 2: FAULTY}, Lost, 0),
        ({0: FAULTY, 1: "mute", 2: FAULTY}, Lost, 0),
        ({2: "mute"}, Lost, 0),
        (dict.fromkeys(range(3), "dead"), Lost, 0),
        (dict.fromkeys(range(3), "mute"), Lost, 0),
    ],
)
def test_ranks_are_ended_together_unless_they_do_the_same(does: Any, raised: Any, left: int, tmp_path: Path) -> None:
    launcher = Numbered(does)
    patience, shown = Patience(look=0.02, silence=0.2), list[tuple[int, int]]()
    options: Any = {"patience": patience, "show": lambda *alive: shown.append(alive)}
    with closing(Ranks(launcher, None, 3, tmp_path / "home", **options)) as ranks:  # type: ignore[arg-type]
        assert ranks.begin(Origin(Path())) == 0
        if raised is None:
            assert ranks.call("update") == 0
        else:
            with pytest.raises(raised):
                ranks.call("update")
        assert (len(launcher.alive), ranks.are_there) == (left, left > 0)
        assert shown == [(3, 3), *[(0, 3)] * (left == 0)]
    assert launcher.closed
    assert launcher.alive == []
    assert not (tmp_path / "home").exists()


def test_ranks_of_a_killed_run_do_not_meet_those_of_another(tmp_path: Path) -> None:
    met = list[Path]()

    class Meeting(Numbered):
        async def call(self, worker: Any, method: str, *arguments: Any) -> Answer:
            met.extend(arguments[0].meeting for _ in range(method == "begin"))
            return await super().call(worker, method, *arguments)

    for _ in range(2):
        with closing(Ranks(Meeting({}), None, 2, tmp_path / "home")) as ranks:  # type: ignore[arg-type]
            ranks.begin(Origin(Path()))
            (tmp_path / "home" / met[-1].name).touch()
        assert not (tmp_path / "home").exists(), "it is removed nevertheless"
    assert len(met) == 4
    assert len(set(met)) == 2


class Full(Numbered):
    """Has room for two."""

    def create(self, make: Any, kind: Any) -> int:
        if len(self.alive) == 2:
            raise Lost("There is no room.")
        return super().create(make, kind)


def test_ranks_for_which_there_is_no_room_leave_none_behind(tmp_path: Path) -> None:
    launcher = Full({})
    with closing(Ranks(launcher, None, 3, tmp_path / "home")) as ranks:  # type: ignore[arg-type]
        with pytest.raises(Lost, match="no room"):
            ranks.begin(Origin(Path()))
        assert (launcher.alive, ranks.are_there) == ([], False)


# --- ranks that cannot exchange anything, in processes -------------------------------------------------------------


class Exchanging:
    """A learner that exchanges numbers with the other rank, if nothing comes in between.

    Args:
        mesh: of two.
        does: what happens when it is to learn, if that has not happened yet.
        happened: a file that says so.
    """

    place, config, temperature = (0, 0), LearnerConfig(), 1.0

    def __init__(self, mesh: Any, does: str, happened: Path) -> None:
        self._number, self._does, self._happened = mesh.get_local_rank(), does, happened
        self.is_first = self._number == 0

    def update(self, *batch: Any) -> dict[str, float]:
        import torch
        import torch.distributed as dist

        if not self._happened.exists():
            dist.barrier()  # both have looked
            self._happened.touch()
            if self._does == "broken" and not self.is_first:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            if self._does == "apart":
                dist.recv(torch.zeros(1), 1 - self._number)  # what the other one sends does not arrive
        number = torch.tensor([float(self._number)])
        dist.all_reduce(number)
        self.place = (1, 1)
        return {"loss": number.item()}


@dataclass(frozen=True)
class MakeExchanging:
    """Makes such learners."""

    does: str
    happened: Path
    device: str = "cpu"

    def __call__(self, policy: Path, mesh: Any) -> Any:
        return Exchanging(mesh, self.does, self.happened)


@pytest.mark.slow
@pytest.mark.parametrize(("does", "said"), [("broken", "CUDA error"), ("apart", "It failed: ")])
def test_ranks_that_cannot_go_on_are_made_anew_and_learn(does: str, said: str, tmp_path: Path) -> None:
    told, shown = list[str](), list[tuple[int, int]]()
    patience = Patience(silence=20.0, pause=0.01, exchange=5.0)
    ranks = Ranks(
        LocalLauncher(tmp_path),
        MakeExchanging(does, tmp_path / "happened"),
        2,
        tmp_path / "ranks",
        patience=patience,
        tell=told.append,
        show=lambda *alive: shown.append(alive),
    )
    with closing(RankedLearner(ranks, Origin(Path()), lambda: Origin(Path()))) as learner:
        assert learn(learner, 0) == {"loss": 1.0}
        assert learner.place == (1, 1)
    assert told[0].startswith("a rank of the learner was lost: ")
    assert said in told[0]
    assert told[1:] == ["the learner's ranks were made anew, and took 0 updates once more"]
    assert shown[:3] == [(2, 2), (0, 2), (2, 2)]
