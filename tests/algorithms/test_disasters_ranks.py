"""Disasters of a learner's ranks, in the middle of an exchange drawn by a seed: the run is the undisturbed one, bit for bit."""

import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from disaster_ranks import Struck, Work
from disaster_toys import moment
from test_cli_train import logged, said, same, weights
from test_cluster_learners import assert_nothing_left, kept, run_of, words
from test_disasters import clean
from test_disasters_nodes import complete, nodes, wait_until_ended

from algorithms.cli import main
from algorithms.cluster import COUNTS, Patience
from algorithms.cluster.ranks import Ranks

__all__ = ["clean", "nodes", "run_of"]

EXCHANGES: dict[Work, int] = {"learns": 160, "writes": 10}
"""Of an undisturbed run, at least."""

PATIENCE = Patience(look=0.5, silence=15.0, pause=0.01)
"""A machine that does much else may keep a healthy rank silent for seconds."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("wide_terminal")]


@dataclass(frozen=True)
class Disaster:
    """What happens; see `Struck`."""

    seed: int
    work: Work = "learns"
    sent: signal.Signals = signal.SIGKILL
    ranks: tuple[int, ...] = (0,)
    engines: bool = False

    def __str__(self) -> str:
        who = ["rank"] * len(self.ranks) + ["engine"] * self.engines
        return f"{self.sent.name} of {' and '.join(who)} that {self.work}"


DISASTERS = [
    Disaster(0, ranks=(1,)),
    Disaster(1, sent=signal.SIGSTOP),
    Disaster(5, ranks=(1,), engines=True),
    Disaster(3, ranks=(0, 1)),
    Disaster(5, work="writes"),
]


@pytest.fixture
def undisturbed(run_of: Any) -> Path:
    """Returns the run that all others must equal; it is read before others begin, as libraries then start threads that stay."""
    run: Path = run_of("arpo", 2)
    weights(run)
    return run


def struck(disaster: Disaster, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Struck]:
    """Has it happen to the ranks of the next run; returns where it is told whether it has."""
    made = list[Struck]()

    def ranks(launcher: Any, make: Any, *given: Any, **more: Any) -> Ranks:
        (at,) = moment(disaster.seed, EXCHANGES[disaster.work])
        own = {"sent": disaster.sent, "ranks": disaster.ranks, "engines": disaster.engines}
        made.append(Struck(make, folder, disaster.work, at, **own))  # type: ignore[arg-type]
        return Ranks(launcher, made[-1], *given, patience=PATIENCE, **more)

    monkeypatch.setattr("algorithms.cli.elsewhere.Ranks", ranks)
    return made


def assert_same_run(run: Path, other: Path) -> None:
    for name in ("trees.jsonl.zst", "before.json", "after.json"):
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    lines = [[{name: it for name, it in line.items() if name not in COUNTS} for line in logged(one)] for one in (run, other)]
    assert lines[0] == lines[1], "nothing is counted twice"
    assert same(weights(run), weights(other))
    assert same(kept(run), kept(other))


@pytest.mark.turns("disaster", always=0, often=1)
@pytest.mark.parametrize("disaster", DISASTERS, ids=str)
def test_ranks_that_are_killed_or_stopped_cost_nothing_but_time(
    disaster: Disaster,
    undisturbed: Path,
    tiny_policy: Path,
    clean: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "told").mkdir()
    found = struck(disaster, tmp_path / "told", monkeypatch)
    assert main([*words(tiny_policy, clean, "arpo", 2), "--checkpoint-every", "1"]) == 0
    happened = found[0].happened()
    assert (len(happened["ranks"]), len(happened["engines"])) == (len(disaster.ranks), disaster.engines), "it did happen"
    told = said(capsys)
    why = "It gave no sign of life" if disaster.sent == signal.SIGSTOP else "Its process ended."
    assert told.count(f"a rank of the learner was lost: {why}") == 1
    assert told.count("the learner's ranks were made anew") == 1
    assert bool(re.search(r"engine (1 )?was lost", told)) == disaster.engines
    assert_same_run(clean, undisturbed)
    assert_nothing_left(clean)


@pytest.mark.thorough
@pytest.mark.parametrize("disaster", [Disaster(6), Disaster(7, sent=signal.SIGSTOP, ranks=(1,))], ids=str)
def test_actors_of_ray_that_are_ranks_are_made_anew_likewise(
    disaster: Disaster,
    undisturbed: Path,
    tiny_policy: Path,
    nodes: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    complete(nodes)
    run = tmp_path / "run"
    (tmp_path / "told").mkdir()
    found = struck(disaster, tmp_path / "told", monkeypatch)
    assert main([*words(tiny_policy, run, "arpo", 2), "--checkpoint-every", "1", "--cluster", "ray"]) == 0
    happened = found[0].happened()
    assert len(happened["ranks"]) == 1, "it did happen"
    why = "It gave no sign of life" if disaster.sent == signal.SIGSTOP else "Its actor ended"
    assert said(capsys).count(f"a rank of the learner was lost: {why}") == 1
    assert_same_run(run, undisturbed)
    assert_nothing_left(run)
    wait_until_ended(happened["ranks"])
