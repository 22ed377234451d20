"""`arpo train --verify-every`: a run whose weights do not arrive is saved and ends, and training does not notice the rest."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from test_cli_eval_every import assert_trained_alike
from test_cli_train import arguments, exit_status, said

from algorithms.checkpoint import latest
from algorithms.cli import main
from algorithms.cli.progress import Progress
from algorithms.cli.verified import Verification
from algorithms.models.agreement import Arrival
from algorithms.policies.local import LocalPolicy

pytestmark = pytest.mark.usefixtures("wide_terminal")


def test_an_update_that_does_not_arrive_ends_the_run_which_then_goes_on_as_if_nothing_had_been(
    tiny_policy: Path, finished: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, load = tmp_path / "run", LocalPolicy.load

    async def only_says_so(policy: LocalPolicy, weights: Any, version: int) -> None:
        await load(policy, policy.model.state_dict() if version == 2 else weights, version)

    with monkeypatch.context() as patched:
        patched.setattr(LocalPolicy, "load", only_says_so)
        assert exit_status(arguments(tiny_policy, run, "--verify-every", "1", "--checkpoint-every", "9", steps=3)) == 2
    told = said(capsys)
    assert "after step 1: the new weights arrived; engine and learner agree within" in told
    assert "does not draw with the learner's weights of step 2: it still draws with those of step 1" in told
    assert f"The run is saved as step 2. Continue with: arpo train --resume {run}" in told
    assert latest(run).step == 2

    assert main(["train", "--resume", str(run)]) == 0
    assert_trained_alike(finished, run)
    shutil.rmtree(run)


class Told:
    """A probe that was told what it finds: for each update, whether it is large enough to tell."""

    def __init__(self, known: list[bool]) -> None:
        self.known, self.asked = known, 0

    async def begin(self) -> None:
        self.asked = 0

    async def require(self) -> list[Arrival]:
        self.asked += 1
        return [Arrival(0.0, 1e-5, 0.0, 1.0 if self.known[self.asked - 1] else None)]


@pytest.mark.parametrize(
    ("every", "known", "verified"),
    [
        (0, [], []),
        (3, [True] * 3, [1, 3, 6]),
        (3, [False, False, True, True], [1, 2, 3, 6]),
        (4, [True, False, False, True], [1, 4, 5, 6]),
    ],
)
def test_the_first_update_is_verified_then_one_every_few_and_the_next_where_nobody_can_tell(
    every: int, known: list[bool], verified: list[int], capsys: Any
) -> None:
    async def run() -> list[int]:
        probe = Told(known)
        verification = Verification(probe, every, Progress(Console()))  # type: ignore[arg-type]
        await verification.begin()
        steps = []
        for step in range(1, 7):
            before = probe.asked
            await verification.due(step)
            steps += [step] * (probe.asked - before)
        return steps

    assert asyncio.run(run()) == verified
    assert said(capsys).count("engine and learner agree within") == len({*known}), "each outcome is told once"


def test_a_negative_number_is_refused(tmp_path: Path, capsys: Any) -> None:
    assert main(["train", "--verify-every", "-1", "--output", str(tmp_path / "run")]) == 2
    assert "verify_every must not be negative, got -1." in said(capsys)
