"""Every law of the conformance kit bites: a subject planted with one fault fails it, and healthy ones pass."""

import os
import pickle
from typing import Any

import gymnasium as gym
import pytest
from faults import ENTANGLED, ENTANGLED_LAWS, FAULTS, GivesItsList, Locked, Unreproducible
from gymnasium.wrappers import RecordEpisodeStatistics, TransformObservation, TransformReward
from tool_faults import clean_up
from toys import DicelessNote, HandCopied, TownEnv, Walk

from arpo_envs.errors import NotForkable
from arpo_envs.forking import ForkLevel, clone
from arpo_envs.testing import ConformanceError, Finding, Law, Report, check_forkable_env
from arpo_envs.testing.probing import child_processes, descriptors
from wrappers import TokenBudget, Transcript


@pytest.fixture(scope="module", autouse=True)
def _registered():
    gym.register("Toy/Town-v0", entry_point="toys:TownEnv", max_episode_steps=4)
    gym.register("Toy/Walk-v0", entry_point="toys:Walk", max_episode_steps=4)
    yield
    del gym.registry["Toy/Town-v0"], gym.registry["Toy/Walk-v0"]


@pytest.fixture(autouse=True)
def _cleaned_up(monkeypatch):
    monkeypatch.setattr("arpo_envs.testing.probing.SETTLING", 0.2)  # what leaks here never ends
    yield
    clean_up()


# --- healthy subjects -----------------------------------------------------------------------------

STACKS = {
    "bare": lambda: TownEnv(),
    "JSON": lambda: TownEnv(dialect="json"),
    "no ToolEnv": lambda: Walk(),
    "copied by hand": lambda: HandCopied(),
    "gym.make": lambda: gym.make("Toy/Town-v0"),
    "gym.make, no ToolEnv": lambda: gym.make("Toy/Walk-v0"),
    "statistics": lambda: RecordEpisodeStatistics(gym.make("Toy/Town-v0")),
    "transformed": lambda: TransformReward(RecordEpisodeStatistics(TownEnv()), lambda reward: 2 * reward),
    "observations transformed": lambda: TransformObservation(gym.make("Toy/Town-v0"), str.upper, None),
    "transcript": lambda: Transcript(TownEnv()),
    "budget": lambda: TokenBudget(Transcript(gym.make("Toy/Town-v0")), len, limit=150, reserve=40),
}


NOT_HERE = {Law.TIMEOUT, Law.SECRETS}
"""Laws of which these environments show nothing: their tools are quick, and run no code."""


@pytest.mark.turns("name", always=6)
@pytest.mark.parametrize("name", STACKS)
def test_healthy_stacks_pass(name):
    report = check_forkable_env(STACKS[name])
    assert report.ok
    assert set(report.passed) | set(report.skipped) >= {law for law in Law if law not in (Law.SPECS, Law.RESULTS, Law.MISTAKES)}
    assert set(report.skipped) <= {Law.PORTABLE, *NOT_HERE}  # a lambda does not pickle


def test_an_id_will_do():
    assert check_forkable_env("Toy/Town-v0").ok


def test_a_tool_env_whose_actions_are_numbers_is_given_numbers():
    class Numbered(gym.ActionWrapper):
        def __init__(self, env: gym.Env) -> None:
            super().__init__(env)
            self.action_space = gym.spaces.Discrete(3)

        def action(self, action: int) -> str:
            return ("<note>hi</note>", "junk", "<answer>France</answer>")[action]

    report = check_forkable_env(lambda: Numbered(TownEnv()))
    assert "takes text" in report.skipped[Law.SECRETS]


def test_what_draws_nothing_is_skipped_by_name():
    report = check_forkable_env(lambda: TownEnv(note=DicelessNote()))
    assert report.ok
    assert "draw nothing" in report.skipped[Law.RESEED]


def test_a_stack_that_honestly_declares_none_is_skipped():
    class Fixed(Walk):
        fork_level = ForkLevel.NONE

    report = check_forkable_env(Fixed)
    assert report.passed == (Law.NUMBERS, Law.LEVEL, Law.REPRODUCIBLE, Law.THREADS)
    assert all("NONE" in reason for law, reason in report.skipped.items() if law not in NOT_HERE)


@pytest.mark.parametrize(("law", "make"), FAULTS, ids=lambda value: value.name if isinstance(value, Law) else "")
def test_law_bites(law, make):
    report = check_forkable_env(make, seeds=(0,), raise_on_fail=False)  # one is enough to see it
    assert law in report.failed, str(report)
    if law not in ENTANGLED_LAWS and make.__code__.co_names[0] not in ENTANGLED:
        assert report.failed == (law,), str(report)


class Shouts(gym.Wrapper):
    """Changes observations where restore() cannot know: no ObservationWrapper, and no last()."""

    def reset(self, **kwargs: Any) -> Any:
        observation, info = super().reset(**kwargs)
        return observation.upper(), info

    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        return observation.upper(), *rest


class Relabels(gym.Wrapper):
    """Changes a value in info where restore() cannot know."""

    def step(self, action: Any) -> Any:
        *rest, info = super().step(action)
        return *rest, info | {"turn": -info["turn"]}


@pytest.mark.parametrize(("wrapper", "named"), [(Shouts, "observation is"), (Relabels, "info['turn'] is 1")])
def test_what_restore_returns_is_compared_with_what_the_stack_returned(wrapper, named):
    report = check_forkable_env(lambda: wrapper(TownEnv()), raise_on_fail=False)
    assert report.failed == (Law.REPEATS,), str(report)
    assert all("restore() returned" in finding.happened for finding in report.findings)
    assert any(named in finding.happened for finding in report.findings), str(report)
    assert "last()" in report.findings[0].hint


def test_every_law_of_environments_has_a_planted_fault():
    of_tools = {Law.SPECS, Law.RESULTS, Law.MISTAKES}
    in_other_files = {Law.NUMBERS, Law.THREADS, Law.TIMEOUT, Law.FAITHFUL, Law.SECRETS}  # test_kit_faults, test_secrecy
    assert {law for law, _ in FAULTS} | of_tools | in_other_files == set(Law)


# --- what a finding says ------------------------------------------------------------------------------


def test_a_lock_is_blamed_by_wrapper_and_attribute():
    with pytest.raises(NotForkable, match=r"Locked\.guard \(a lock\)"):
        clone(Locked(gym.make("Toy/Town-v0")))
    report = check_forkable_env(lambda: Locked(TownEnv()), raise_on_fail=False)
    assert "Locked.guard" in report.findings[0].happened


def test_failing_raises_with_the_report():
    with pytest.raises(ConformanceError, match="never shared") as caught:
        check_forkable_env(GivesItsList)
    assert caught.value.report.failed == (Law.INFO,)
    assert "info['path']" in str(caught.value)
    assert isinstance(caught.value, AssertionError)


def test_report_reads_well():
    finding = Finding(Law.CLOSE, "it closed", "it stays open", "do not close it")
    report = Report("check(X)", (Law.LEVEL,), (finding,), {Law.RESEED: "nothing is drawn"})
    assert str(report).splitlines() == [
        "check(X): 1 passed, 1 failed, 1 skipped",
        "  passed   the declared fork level is honest",
        "  skipped  a clone with a seed draws anew, and reproducibly: nothing is drawn",
        "  FAILED   closing one leaves the others alive",
        "           it closed",
        "           expected: it stays open",
        "           hint: do not close it",
    ]


def test_a_broken_ground_law_skips_the_rest():
    report = check_forkable_env(Unreproducible, raise_on_fail=False)
    assert report.failed == (Law.REPRODUCIBLE,)
    assert all("the same seed and actions" in reason for law, reason in report.skipped.items() if law not in NOT_HERE)


def test_a_crash_of_the_subject_is_a_finding():
    class Crashes(Walk):
        def __setstate__(self, state: dict[str, Any]) -> None:
            raise KeyError("limit")

    report = check_forkable_env(Crashes, raise_on_fail=False)
    assert not report.ok
    assert "limit" in str(report)


def test_given_actions_are_played():
    played = []

    class Listens(Walk):
        def step(self, action: int) -> Any:
            played.append(action)
            return super().step(action)

    assert check_forkable_env(Listens, actions=[[0, 1, 0], [2, 2]], seeds=(3,)).ok
    assert set(played) == {0, 1, 2}


@pytest.mark.parametrize("wrong", [{"seeds": ()}, {"actions": []}, {"actions": [[1], []]}])
def test_useless_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match=r"at least one seed|sequences of actions"):
        check_forkable_env(Walk, **wrong)


def test_without_proc_handles_are_skipped_by_name(monkeypatch):
    monkeypatch.setattr("arpo_envs.testing.resources.descriptors", lambda: None)
    monkeypatch.setattr("arpo_envs.testing.resources.child_processes", lambda: None)
    report = check_forkable_env(Walk, seeds=(0,))
    assert "/proc" in report.skipped[Law.NO_HANDLE_LEAKS]


@pytest.mark.skipif(descriptors() is None or child_processes() is None, reason="needs /proc")
def test_counters_count():
    before = descriptors()
    ends = os.pipe()
    assert descriptors() == before + 2
    for end in ends:
        os.close(end)
    children = child_processes()
    child = os.posix_spawn("/bin/true", ["true"], {})
    assert child_processes() == children + 1
    os.waitpid(child, 0)


def test_findings_travel_between_processes():
    report = check_forkable_env(GivesItsList, raise_on_fail=False)
    assert pickle.loads(pickle.dumps(report)) == report
