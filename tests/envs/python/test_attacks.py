"""The attack suite: every attack, in a clone of a clone, as root and as a user, with and without namespaces.

Each is run in one mode always, and in the others by the slow tests.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from attack_list import ATTACKS
from attack_modes import MODES, Late, Mode, ModeReport, Suite, complaint, run_mode
from attacks import Attack, Seen, ran

TIMEOUT = 900.0
"""Seconds for one mode, on a machine that is very busy; it takes about thirty on an idle processor."""
_AT_ONCE = 2
"""Modes that are run at the same time: each waits half of the time."""
_BOUND = len(MODES) * TIMEOUT + 60
_NAMES = [attack.name for attack in ATTACKS]
_FEWEST = 2
"""Modes that must have been run for the suite to say anything."""


class Reports:
    """What came of each mode, which is run when first asked for, together with those that will be asked for.

    Args:
        asked: the attacks that will be asked for, by mode; none means all.
    """

    def __init__(self, asked: Mapping[Mode, Sequence[str]] | None = None) -> None:
        self._asked = asked or {}
        self._known: dict[str, ModeReport] = {}

    def __getitem__(self, mode: Mode) -> ModeReport:
        if mode.name not in self._known:
            missing = [other for other in dict.fromkeys((*self._asked, mode)) if other.name not in self._known]
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                reports = pool.map(lambda other: run_mode(other, TIMEOUT, self._asked.get(other, ())), missing)
                self._known.update({other.name: report for other, report in zip(missing, reports, strict=True)})
        return self._known[mode.name]

    def skipped(self) -> dict[str, str]:
        """Returns why modes could not be run, by name."""
        return {name: report.unavailable for name, report in self._known.items() if report.unavailable is not None}

    def summary(self) -> str:
        """Returns how many modes were run and which were skipped, in a line."""
        skipped = self.skipped()
        names = "".join(f"; {name}: {reason}" for name, reason in skipped.items())
        return f"attack suite: {len(self._known) - len(skipped)} of {len(MODES)} modes run, {len(skipped)} skipped{names}"


def too_few(offered: int) -> bool:
    """Whether so few modes were run that it is a failure."""
    return offered < _FEWEST


@pytest.fixture(scope="module")
def reports(request: pytest.FixtureRequest) -> Iterator[Reports]:
    asked: dict[Mode, list[str]] = {}
    for item in request.session.items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if isinstance(parameters.get("mode"), Mode):
            names = asked.setdefault(parameters["mode"], [])
            names += [parameters["name"]] if parameters.get("name") in _NAMES else []
    reports = Reports(asked)
    yield reports
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.ensure_newline()
        reporter.write_line(reports.summary())


def _offered(reports: Reports, mode: Mode) -> ModeReport:
    report = reports[mode]
    if report.unavailable is not None:
        pytest.skip(f"mode {mode.name} is not offered here: {report.unavailable}")
    return report


def _cases() -> Iterator[Any]:
    """Yields every attack in every mode; the modes take turns at being the one that is always run."""
    for number, name in enumerate(_NAMES):
        for mode in MODES:
            always = mode is MODES[number % len(MODES)]
            yield pytest.param(name, mode, id=f"{name}-{mode.name}", marks=() if always else pytest.mark.slow)


@pytest.mark.parametrize(("name", "mode"), list(_cases()))
@pytest.mark.timeout(_BOUND)
def test_attack(reports: Reports, name: str, mode: Mode) -> None:
    report = _offered(reports, mode)
    assert name in report.complaints, f"the attack was not run: {report.failure}"
    assert not report.complaints[name], "\n".join(report.complaints[name])


@pytest.mark.parametrize("attacks", ["some", pytest.param("the rest", marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.timeout(_BOUND)
def test_nothing_is_left_of_a_mode(reports: Reports, mode: Mode, attacks: str) -> None:
    """Processes, descriptors and folders are as many as before, and none when the server has ended."""
    report = _offered(reports, mode)
    assert report.left == []
    assert not report.failure


@pytest.mark.timeout(_BOUND)
def test_two_modes_are_run_at_least(reports: Reports) -> None:
    offered = [mode.name for mode in MODES if reports[mode].unavailable is None]
    assert not too_few(len(offered)), reports.summary()


@pytest.mark.parametrize(("offered", "failure"), [(0, True), (1, True), (2, False), (4, False)])
def test_fewer_than_two_modes_are_a_failure(offered: int, failure: bool) -> None:
    assert too_few(offered) == failure


def test_skipped_modes_are_counted_by_name() -> None:
    reports = Reports()
    reports._known = {mode.name: ModeReport() for mode in MODES[1:]} | {MODES[0].name: ModeReport("no such thing")}
    assert reports.summary() == "attack suite: 3 of 4 modes run, 1 skipped; root-with-namespaces: no such thing"


def test_there_are_sixty_attacks_and_no_name_is_used_twice() -> None:
    assert len(ATTACKS) >= 60
    assert not [name for name, count in Counter(attack.name for attack in ATTACKS).items() if count > 1]


def test_no_attack_may_end_in_any_way() -> None:
    ends = (None, "error", "timeout", "died", "limit", "clone")
    outcomes = {inside: [Seen("it did", error, inside) for error in ends] for inside in (True, False)}
    assert not [attack.name for attack in ATTACKS for seen in outcomes.values() if not any(map(attack.expect, seen))]


class _Played(Suite):
    """A suite without sessions, whose attacks end as they are told to; an exception is raised after what was complained of."""

    def __init__(self, told: Mapping[float, Sequence[str | Exception]]) -> None:
        self._told = told

    def _complaints(self, attack: Attack, patience: float, opened: list[Any]) -> Iterator[str | None]:
        for one in self._told[attack.seconds]:
            if isinstance(one, Exception):
                raise one
            yield one


TOOK = Late("the call took 13.0 s, and did not end in time")


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ([], ["never asked"], []),
        (["it said something else"], [], ["it said something else"]),
        (["it printed 'timeout' and 'in time'"], [], ["it printed 'timeout' and 'in time'"]),
        ([TOOK], [], []),
        ([TOOK], ["it said something else"], ["it said something else"]),
        ([TOOK], [TOOK], [TOOK]),
        (["it got out", TOOK], [], ["it got out"]),
        (["it got out", TimeoutError()], [], ["it got out"]),
        ([RuntimeError("the suite itself failed (timeout): it took long")], [], []),
    ],
)
def test_what_was_late_counts_if_it_is_with_more_time_and_all_else_counts(
    first: list[str | Exception], second: list[str | Exception], found: list[str]
) -> None:
    assert _Played({2.0: first, 12.0: second}).run(Attack("late", "", ran, seconds=2.0)) == found


def test_an_error_of_the_suite_itself_counts() -> None:
    """Though lines of the code that it comes from speak of a timeout."""
    [told] = _Played({2.0: [KeyError("counter")], 12.0: []}).run(Attack("late", "", ran, seconds=2.0))
    assert told.endswith("KeyError: 'counter'\n")


@pytest.mark.parametrize(
    ("error", "said", "is_late"),
    [
        ("timeout", "whatever it has printed", True),
        ("died", "the interpreter was lost (no answer in time)", True),
        ("clone", "the session did not come to rest", True),
        ("died", "the interpreter was lost", False),
        ("error", "TimeoutError: not in time", False),
        (None, "in time", False),
    ],
)
def test_the_suite_believes_nobody_who_says_that_it_was_late(error: str | None, said: str, is_late: bool) -> None:
    assert isinstance(complaint("wrong", error, said), Late) == is_late
