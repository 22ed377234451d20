"""Each attack on the isolation succeeds in a plain interpreter: so the tests that it is refused could fail."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from attack_list import ATTACKS, LOCKS, OUTSIDE, PROCESSES, RESOURCES
from attacks import Attack, Seen, attempts
from isolation_modes import ALONE, skip_if_missing

from arpo_envs.tools.python.server import isolation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_AT_ONCE = 3
"""Attacks that are run at the same time: most of what each takes is waiting, for the kernel to end its namespaces."""
PROGRAM = Path(__file__).with_name("unconfined.py")
BY_LAYERS = (*OUTSIDE, *LOCKS, *PROCESSES, *RESOURCES)
"""What the layers of isolation must refuse. Others attack a session's own code, which `mutation.py` breaks instead."""
_LEFT = "it may do that; what it leaves must be counted, copied and removed, which is seen when the suite ends"
NOT_SHOWN = {
    "harmless_devices": "it is no attack: these must work",
    "siblings_files_by_guessing": "nobody guesses 128 bits, confined or not",
    "memory_of_a_list": "no machine has so much memory",
    "wait_for_input": "nobody types here either",
    "write_to_descriptors": "it is no harm: they lead nowhere",
    "descriptors_kept": "some bound is everywhere; descriptors_without_end shows which",
    **dict.fromkeys(("deep_folders", "files_full_of_holes", "files_that_cannot_be_read"), _LEFT),
    **dict.fromkeys(("links_in_circles", "odd_names", "one_file_with_many_names"), _LEFT),
}
"""Attacks that end in the same way in a plain interpreter, and why."""
SHOWN = 0.8
"""The part of all single attempts of the attacks whose outcome is another one."""


@pytest.fixture(scope="module")
def outcomes() -> Mapping[str, Mapping[str, Any]]:
    skip_if_missing(isolation.probe(), ALONE["namespaces"])  # attacks that succeed must be kept apart somehow
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "ARPO_ATTACK_SECRET": "must stay here",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",  # with more, the kernel would not let it leave its namespaces
    }
    names = [attack.name for attack in BY_LAYERS]

    def found(some: Sequence[str]) -> list[dict[str, Any]]:
        command = [sys.executable, str(PROGRAM), *some]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=800, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return {
            one["case"]: one for part in pool.map(found, [names[first::_AT_ONCE] for first in range(_AT_ONCE)]) for one in part
        }


def _complaints(attack: Attack, outcome: Mapping[str, Any]) -> list[str]:
    """Returns what the attack's own test says of an outcome, with namespaces and without."""
    assert "defect" not in outcome, outcome["defect"]
    seen = [attack.expect(Seen(outcome["text"], outcome["error"], namespaces)) for namespaces in (True, False)]
    harmed = attack.before and attack.original and outcome["original"] != attack.original[1]
    return [complaint for complaint in (*seen, outcome["host"], harmed and "the original was reached") if complaint]


@pytest.mark.parametrize("attack", BY_LAYERS, ids=lambda attack: attack.name)
def test_unconfined_it_succeeds(outcomes: Mapping[str, Mapping[str, Any]], attack: Attack) -> None:
    complaints = _complaints(attack, outcomes[attack.name])
    if attack.name in NOT_SHOWN:
        assert not complaints, f"it can be shown now: {complaints}"
    else:
        assert complaints, f"its test passes without any isolation: {outcomes[attack.name]}"


def test_nearly_all_single_attempts_are_seen_to_succeed(outcomes: Mapping[str, Mapping[str, Any]]) -> None:
    weak, all_of_them = [], 0
    for attack in BY_LAYERS:
        tried = attempts(Seen(outcomes[attack.name]["text"], outcomes[attack.name]["error"], True))
        if "the cell" in tried or outcomes[attack.name]["host"]:
            continue  # it shows no single ones, or their success is seen elsewhere
        all_of_them += len(tried)
        for name, what in tried.items():
            alone = [attack.expect(Seen(repr({name: what}), None, namespaces)) for namespaces in (True, False)]
            weak += [] if any(alone) else [f"{attack.name}, {name}: {what}"]
    assert all_of_them > 200
    assert len(weak) < (1 - SHOWN) * all_of_them, weak


def test_what_is_not_shown_exists() -> None:
    assert NOT_SHOWN.keys() <= {attack.name for attack in ATTACKS}
