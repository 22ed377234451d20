"""Every law of `check_algorithm` bites, and every recipe passes."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from algorithm_faults import ALGORITHM_FAULTS, FORKING, PLAIN, By, crediting
from small_recipes import SMALL, small

from algorithms import Algorithm
from algorithms.branching import BranchPoint
from algorithms.branching.blind import RandomBranching
from algorithms.testing import AlgorithmLaw, ConformanceError, check_algorithm


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Such small steps take longer with several threads, much longer where others want them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.turns("case", always=5)
@pytest.mark.parametrize("case", SMALL)
def test_every_recipe_passes(case: str) -> None:
    report = check_algorithm(small(case))
    assert set(report.skipped) <= {AlgorithmLaw.NO_FORKS, AlgorithmLaw.NEEDS, AlgorithmLaw.EQUAL}, str(report)


@pytest.mark.parametrize("alone", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["alone", "among all"])
@pytest.mark.parametrize(("law", "algorithm"), ALGORITHM_FAULTS, ids=lambda value: getattr(value, "name", ""))
def test_algorithm_law_bites(law: AlgorithmLaw, algorithm: Algorithm, alone: bool) -> None:
    others = {other: "not now" for other in AlgorithmLaw if other is not law}
    report = check_algorithm(algorithm, skip=others if alone else {}, raise_on_fail=False)
    assert law in report.failed, str(report)


def test_every_law_has_a_planted_fault() -> None:
    assert {law for law, _ in ALGORITHM_FAULTS} == set(AlgorithmLaw)


def test_the_faults_are_planted_in_something_healthy() -> None:
    assert check_algorithm(PLAIN).ok
    assert check_algorithm(FORKING).ok
    assert check_algorithm(crediting(By())).ok


def test_a_broken_algorithm_raises_and_says_what_happened_what_was_expected_and_what_to_do() -> None:
    broken = dict(ALGORITHM_FAULTS)[AlgorithmLaw.DIRECTION]
    with pytest.raises(ConformanceError) as caught:
        check_algorithm(broken)
    assert caught.value.report.failed[0] is AlgorithmLaw.DIRECTION
    text = " ".join(str(caught.value).split())
    assert "FAILED what has a positive advantage becomes likelier where the advantage is 1, the slope of the loss" in text
    assert "expected: below 0: the loss is minimised hint: Is a minus sign missing" in text


def test_a_law_that_does_not_apply_is_skipped_with_the_reason() -> None:
    broken = dict(ALGORITHM_FAULTS)[AlgorithmLaw.EQUAL]
    report = check_algorithm(broken, skip={AlgorithmLaw.EQUAL: "it has no baseline, and means it"})
    assert report.skipped[AlgorithmLaw.EQUAL] == "it has no baseline, and means it"


def test_without_torch_growing_and_credit_are_still_checked() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from algorithms import make; from algorithms.testing import check_algorithm, AlgorithmLaw as Law\n"
        "report = check_algorithm(make('grpo', rollouts=4))\n"
        "assert report.skipped[Law.LOSS] == report.skipped[Law.LEARNS] == 'torch is not installed', report\n"
        "assert Law.EQUAL in report.passed, report"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_how_often_it_forked_is_told_above_all_if_it_never_did() -> None:
    def note(algorithm: Algorithm) -> str:
        (line,) = [line for line in str(check_algorithm(algorithm)).splitlines() if line.startswith("  note ")]
        return line

    @dataclass(frozen=True)
    class Never(RandomBranching):
        def on_result(self, point: BranchPoint, rng: np.random.Generator) -> int:
            return 0

    never = replace(FORKING, branching=Never(roots=2))
    assert "32 paths: 0 by forks, 0 by back-fill" in note(PLAIN)
    assert "forked" not in note(PLAIN)
    assert re.search(r"32 paths: [1-9]\d* by forks", note(FORKING))
    assert "32 paths: 0 by forks, 16 by back-fill" in note(never)
    assert "never forked here: does on_result always return 0" in note(never)
