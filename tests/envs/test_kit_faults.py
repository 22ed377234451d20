"""What the kits let through before: each fault is found by its law, and explained by its own cause."""

import time
from functools import partial
from typing import Any

import pytest
from kit_faults import (
    CHANGED,
    COUNT,
    INSERT,
    LOSSES,
    NUMBER_FAULTS,
    NUMBERS,
    QUICK,
    SLOW,
    THREAD_FAULTS,
    TIMEOUT_FAULTS,
    Database,
    ForgetsAfter,
    KeepsTime,
    LocalSession,
    OneBuffer,
    Sleeps,
    SqlTool,
    note,
)
from tool_faults import CountsOnTool, Itself
from toys import Echo, Note, TownEnv, Walk

from arpo_envs.testing import Finding, Law, Report, SkippedLaw, check_forkable_env, check_tool, judge
from arpo_envs.testing.timeouts import Timed, overruns


def words_of(report: Report, law: Law) -> str:
    return "\n".join(str(finding) for finding in report.findings if finding.law is law)


def town(tool: Any) -> TownEnv:
    return TownEnv(note=tool)


# --- threads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", THREAD_FAULTS)
def test_what_minds_its_thread_is_found_by_both_kits(make: Any) -> None:
    for report in (check_tool(make(), raise_on_fail=False), check_forkable_env(lambda: town(make()), raise_on_fail=False)):
        assert report.failed == (Law.THREADS,), str(report)
        assert "called from several threads, it raised" in words_of(report, Law.THREADS)
        assert "check_same_thread" in report.findings[0].hint


def test_what_goes_wrong_only_at_once_is_found_by_both_kits() -> None:
    tool = note(OneBuffer)
    for report in (check_tool(tool, raise_on_fail=False), check_forkable_env(lambda: town(tool), raise_on_fail=False)):
        assert report.failed == (Law.THREADS,), str(report)
        assert "next to 2 others" in words_of(report, Law.THREADS)
        assert "needs a lock" in report.findings[0].hint


def test_what_a_thread_keeps_for_itself_is_found_where_it_differs() -> None:
    report = check_tool(note(LocalSession), raise_on_fail=False)
    assert report.failed == (Law.THREADS,), str(report)
    assert "called from several threads, a clone, note: the result is" in words_of(report, Law.THREADS)


def test_a_database_of_any_thread_passes() -> None:
    assert check_tool(SqlTool(Database), calls=[INSERT, COUNT]).ok
    assert check_forkable_env(lambda: town(SqlTool(Database)), seeds=(0,)).ok


def test_what_is_shared_is_not_blamed_on_threads() -> None:
    report = check_tool(Itself(), raise_on_fail=False)
    assert Law.THREADS not in report.failed, str(report)


# --- timeouts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "options"),
    [pytest.param(*fault, marks=[pytest.mark.slow] if number % 3 else []) for number, fault in enumerate(TIMEOUT_FAULTS)],
)
@pytest.mark.timeout(60)
def test_a_tool_that_ignores_its_timeout_is_found_and_not_waited_for(tool: Any, options: dict[str, Any]) -> None:
    report = check_tool(tool, raise_on_fail=False, **options)
    assert report.failed == (Law.TIMEOUT,), str(report)
    assert "echo" in words_of(report, Law.TIMEOUT)
    assert "with timeout=" in words_of(report, Law.TIMEOUT)


def test_a_tool_that_keeps_its_timeout_passes() -> None:
    report = check_tool(KeepsTime(3600.0, "slow"), calls=[QUICK], slow=SLOW, seeds=(0,))
    assert Law.TIMEOUT in report.passed
    for seconds, usual in ((0.7, 10.0), (0.9, 10.0), (3600.0, 0.2), (0.3, 0.25)):
        assert overruns(partial(timed, KeepsTime(seconds)), usual) == ([], True)
    assert overruns(partial(timed, KeepsTime(0.01)), 10.0) == ([], False)


def timed(tool: Any) -> Any:
    def make(seconds: float) -> bool:
        tool.call("echo", {"text": "x"}, timeout=seconds)
        return True

    return [Timed("echo", make)], lambda: None


@pytest.mark.parametrize("tool", [Echo(), Sleeps(0.01)])
def test_a_quick_tool_shows_nothing_of_its_timeout(tool: Any) -> None:
    assert "give one that does as `slow`" in check_tool(tool, seeds=(0,)).skipped[Law.TIMEOUT]


def test_an_environment_with_such_a_tool_is_found_and_named() -> None:
    report = check_forkable_env(lambda: town(Sleeping()), actions=[["<note>a</note>"]], seeds=(0,), raise_on_fail=False)
    assert report.failed == (Law.TIMEOUT,), str(report)
    assert "<note>" in words_of(report, Law.TIMEOUT)


class Sleeping(Note):
    class session(Note.session):
        def call(self, name: str, arguments: Any, *, timeout: float) -> Any:
            time.sleep(0.8)
            return super().call(name, arguments, timeout=timeout)


# --- lost, changed, shared ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("tool", "options"), LOSSES)
def test_what_a_clone_forgets_is_found_wherever_it_is_cut(tool: Any, options: dict[str, Any]) -> None:
    report = check_tool(tool, raise_on_fail=False, **options)
    assert report.failed == (Law.FAITHFUL,), str(report)
    assert "lost something" in report.findings[0].hint
    assert "shares" not in str(report)
    assert "cloned after" in report.findings[0].happened


@pytest.mark.parametrize("tool", CHANGED)
def test_cloning_that_changes_the_original_is_no_sharing(tool: Any) -> None:
    report = check_tool(tool, raise_on_fail=False)
    assert Law.UNTOUCHED in report.failed, str(report)
    assert Law.INDEPENDENT not in report.failed
    assert "Cloning changed the original" in words_of(report, Law.UNTOUCHED)
    assert "shares" not in str(report)


def test_what_is_shared_is_not_said_to_be_lost() -> None:
    report = check_tool(Itself(), raise_on_fail=False)
    assert Law.INDEPENDENT in report.failed
    assert Law.FAITHFUL in report.passed
    assert "shares state" in words_of(report, Law.INDEPENDENT)
    assert "lost" not in str(report)


def test_nothing_is_said_to_be_cloned_that_was_not() -> None:
    for report in (
        check_tool(CountsOnTool(), raise_on_fail=False),
        check_forkable_env(ForgetsNothing, actions=[[0, 1]], raise_on_fail=False),
    ):
        assert report.failed == (Law.REPRODUCIBLE,), str(report)
        said = " ".join(finding.happened for finding in report.findings)
        assert "clone" not in said
        assert "fork" not in said
        assert "call 1" in said or "step 1" in said


class ForgetsNothing(Walk):
    """Counts the steps of all episodes."""

    steps = 0

    def step(self, action: int) -> Any:
        ForgetsNothing.steps += 1
        observation, _, *rest = super().step(action)
        return observation, float(self.steps), *rest


class ForgetsLate(Walk):
    """Its copies forget where they were, but only those taken after the fourth step."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "ForgetsLate":
        twin = type(self)(self.limit)
        memo[id(self)] = twin
        vars(twin).update(vars(self))
        twin.path = list(self.path) if len(self.path) != 5 else [0] * 5
        twin._np_random = type(self._np_random)(type(self._np_random.bit_generator)())
        twin._np_random.bit_generator.state = self._np_random.bit_generator.state
        return twin


def test_an_environment_that_forgets_late_is_found_and_said_to_lose() -> None:
    report = check_forkable_env(ForgetsLate, actions=[[0, 1, 2, 0, 1, 2]], raise_on_fail=False)
    assert report.failed == (Law.FAITHFUL,), str(report)
    assert "forked after 4 action(s)" in report.findings[0].happened
    assert "in step 5" in report.findings[0].happened
    assert "lost something" in report.findings[0].hint


def test_in_an_environment_what_is_lost_is_not_said_to_be_shared() -> None:
    report = check_forkable_env(lambda: town(note(ForgetsAfter)), raise_on_fail=False)
    assert Law.FAITHFUL in report.failed, str(report)
    assert Law.INDEPENDENT not in report.failed
    assert "mutable is shared" not in str(report)


# --- numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", NUMBER_FAULTS)
def test_what_is_paid_is_a_number(make: Any) -> None:
    report = check_forkable_env(make, seeds=(0,), raise_on_fail=False)
    assert report.failed == (Law.NUMBERS,), str(report)
    assert "step" in report.findings[0].happened


@pytest.mark.parametrize("make", NUMBERS)
def test_numbers_of_every_kind_pass(make: Any) -> None:
    assert Law.NUMBERS in check_forkable_env(make, seeds=(0,), raise_on_fail=False).passed


# --- silence ------------------------------------------------------------------------------------------------


def test_what_takes_long_says_what_it_is_at(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("arpo_envs.testing.progress.QUIET", 0.05)
    check_tool(Sleeps(0.01), seeds=(0,))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 3
    assert any(line.startswith("check_tool(Sleeps): ") and line.endswith(str(Law.FAITHFUL)) for line in lines), lines


def test_what_is_quick_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    check_tool(Echo())
    assert capsys.readouterr() == ("", "")


def test_what_was_found_before_a_law_gave_up_is_kept() -> None:
    def check() -> Any:
        yield Finding(Law.CLOSE, "it closed", "open", "no")
        raise SkippedLaw("not here")

    report = judge("x", {Law.CLOSE: check}, frozenset())
    assert report.failed == (Law.CLOSE,)
    assert not report.skipped
