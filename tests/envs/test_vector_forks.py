"""`fork` makes rows copies of another row, wrappers included, or leaves them as they are."""

import pickle
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as gymnasium_wrappers
from gymnasium.wrappers.vector import NormalizeReward, RecordEpisodeStatistics
from hypothesis import given, settings
from hypothesis import strategies as st
from test_laws import IDS, SMALL, made
from toys import TownEnv, Walk
from vector_toys import ANSWER, MODES, NOTE_A, NOTE_B, Gate, of_row, shown, tasks, towns

from arpo_envs.errors import CloneError, ConfigError, NotForkable, RowError
from arpo_envs.forking import ForkLevel, clone
from arpo_envs.testing.scripts import default_scripts
from arpo_envs.vector import ForkableVectorEnv, fork
from arpo_envs.vector.wrapped import GYMNASIUMS


def columns(returned: Any, rows: list[int]) -> list[Any]:
    """Returns what each of these rows returned."""
    *values, infos = returned
    each = [[part[row] for part in values] for row in rows]
    return [(part, of_row(infos, row)) for row, part in zip(rows, each, strict=True)]


@pytest.mark.parametrize("mode", MODES, ids=[mode.value for mode in MODES])
@settings(max_examples=25, deadline=None)
@given(
    before=st.lists(st.sampled_from([NOTE_A, NOTE_B, "junk", ANSWER]), max_size=4),
    after=st.lists(st.sampled_from([NOTE_A, "<echo>x</echo>", ANSWER]), min_size=1, max_size=6),
    source=st.integers(0, 2),
)
def test_targets_go_on_as_the_source_does(mode, before, after, source):
    envs = towns(3, mode)
    envs.reset(seed=1)
    for action in before:
        if not (mode is AutoresetMode.DISABLED and envs._rows[source].ended):
            envs.step_subset([source], [action])
    targets = [row for row in range(3) if row != source]
    observations, infos = envs.fork(source, targets)
    assert observations == (envs._rows[source].last.observation,) * 2
    assert infos["task"].tolist() == [envs.envs[source].unwrapped.task.id] * 2
    for action in after:
        if mode is AutoresetMode.DISABLED and envs._rows[source].ended:
            with pytest.raises(gym.error.ResetNeeded, match=r"rows \[0, 1, 2\] are over"):
                envs.step([action] * 3)
            break
        mine, *copies = columns(envs.step([action] * 3), [source, *targets])
        assert copies == [mine, mine]
    envs.close()


@pytest.mark.parametrize("name", IDS)
def test_every_id_forks_and_goes_on_as_a_clone(name):
    made(name).close()
    envs = gym.make_vec(name, num_envs=3, **SMALL.get(name, {}))
    questions, _ = envs.reset(seed=3)
    call, *rest = default_scripts(envs.envs[0], questions[0])[0]
    results, *_ = envs.step([call, "junk", "junk"])
    twin = clone(envs.envs[0])
    observations, infos = envs.fork(0, [1, 2])
    assert observations == (results[0], results[0])
    assert infos["turn"].tolist() == [1, 1]
    for action in rest:
        observation, reward, terminated, truncated, info = twin.step(action)
        for place, (part, infos) in enumerate(columns(envs.step([action] * 3), [0, 1, 2])):
            assert part == [observation, reward, terminated, truncated], place
            assert infos == info, place
        if terminated or truncated:
            break
    twin.close()
    envs.close()


def test_copies_are_independent_and_seeds_make_them_differ():
    envs = towns(4)
    envs.reset(seed=0)
    envs.step_subset([0], [NOTE_A])
    envs.fork(0, [1, 2, 3], seeds=[None, 5, 6])
    first, *_ = envs.step([NOTE_B] * 4)
    assert len({*first}) == 3
    assert first[0] == first[1]
    envs.fork(0, [2], seeds=[5])
    second, *_ = envs.step_subset([1, 0], [NOTE_A, "junk"])
    assert second[0].startswith("<result>3 notes")
    assert [len(env.unwrapped.sessions[1].notes) for env in envs.envs] == [2, 3, 2, 2]
    envs.close()


def test_the_sources_last_infos_are_not_shared():
    envs = ForkableVectorEnv([Walk] * 3)
    envs.reset(seed=0)
    envs.step(np.array([0, 1, 2]))
    _, infos = envs.fork(0, [1, 2])
    infos["path"][0].append("changed")
    assert "changed" not in infos["path"][1]
    assert "changed" not in envs.fork(0, [1])[1]["path"][0]
    envs.close()


def test_the_old_rows_are_closed_and_no_other():
    gate = Gate()
    envs = towns(3, note=gate)
    envs.reset(seed=0)
    old = [env.unwrapped.sessions[1] for env in envs.envs]
    envs.fork(2, [0, 1])
    assert [session.closed for session in old] == [True, True, False]
    assert gate.live == 3
    envs.close()
    assert gate.live == 0


@pytest.mark.parametrize("refused", [0, 1])
def test_a_copy_that_cannot_be_made_changes_nothing(refused):
    gate = Gate()
    envs, undisturbed = towns(3, note=gate), towns(3)
    for both in (envs, undisturbed):
        both.reset(seed=0)
        both.step([NOTE_A, NOTE_B, NOTE_A])
    gate.refused = refused
    with pytest.raises(CloneError, match="Row 0 could not be forked, and no row was changed: no machine is left"):
        envs.fork(0, [1, 2])
    assert gate.live == 3
    assert tasks(envs) == tasks(undisturbed)
    assert shown(envs.step([NOTE_A, ANSWER, NOTE_B])) == shown(undisturbed.step([NOTE_A, ANSWER, NOTE_B]))
    envs.close()
    undisturbed.close()
    assert gate.live == 0


def test_what_cannot_be_copied_is_refused_by_row():
    class Fixed(Walk):
        fork_level = ForkLevel.NONE

    envs = ForkableVectorEnv([Fixed] * 2)
    envs.reset(seed=0)
    with pytest.raises(NotForkable, match=r"Row 1 could not be forked, and no row was changed: Fixed does not declare"):
        envs.fork(1, [0])
    envs.close()


def test_an_old_row_that_cannot_be_closed_is_named_and_the_fork_is_done():
    gate = Gate()
    envs = towns(2, note=gate)
    envs.reset(seed=0, options={"task": "t0"})
    envs.reset_subset([1], options={"task": "t1"})
    gate.refuses_to_close = True
    with pytest.raises(RowError, match="Row 1 failed with OSError"):
        envs.fork(0, [1])
    gate.refuses_to_close = False
    assert tasks(envs) == ["t0", "t0"]
    envs.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, []), "at least one target"),
        ((0, [0]), "distinct"),
        ((0, [1, 1]), "distinct"),
        ((3, [1]), "0..2"),
    ],
)
def test_wrong_rows_are_refused(arguments, message):
    envs = towns(3)
    envs.reset(seed=0)
    with pytest.raises(ConfigError, match=message):
        envs.fork(*arguments)
    with pytest.raises(ConfigError, match="Expected 1 seeds, one per target, got 2"):
        envs.fork(0, [1], seeds=[1, 2])
    envs.close()


def test_there_must_be_something_to_copy():
    envs = towns(2)
    with pytest.raises(gym.error.ResetNeeded, match="Row 0 was never reset"):
        envs.fork(0, [1])
    envs.close()


def test_a_fork_may_be_a_rows_first_episode():
    envs = towns(3)
    envs.reset_subset([0], seed=0)
    envs.fork(0, [1, 2])
    *_, infos = envs.step([NOTE_A] * 3)
    assert infos["turn"].tolist() == [1, 1, 1]
    envs.close()


# --- wrappers around the vector environment -----------------------------------------------------------


def test_statistics_are_forked_with_their_row():
    envs = RecordEpisodeStatistics(NormalizeReward(towns(3)))
    envs.reset(seed=0, options={"task": "t0"})
    envs.step([NOTE_A, NOTE_A, NOTE_A])
    envs.step([NOTE_A, ANSWER, NOTE_A])
    fork(envs, 0, [1])
    *_, infos = envs.step([ANSWER, ANSWER, NOTE_A])
    assert infos["episode"]["l"].tolist() == [3, 3, 0]
    assert infos["_episode"].tolist() == [True, True, False]
    envs.close()


def test_a_wrapper_names_what_it_keeps_for_each_row():
    class Counts(gym.vector.VectorWrapper):  # type: ignore[type-arg]
        per_row: ClassVar = frozenset({"steps"})

        def __init__(self, env: Any) -> None:
            super().__init__(env)
            self.steps, self.calls = np.array([4, 5]), np.array([6, 7])

    envs = Counts(RecordEpisodeStatistics(towns(2)))
    envs.reset(seed=0)
    fork(envs, 1, [0])
    assert (envs.steps.tolist(), envs.calls.tolist()) == ([5, 5], [6, 7])
    envs.close()


def test_what_gymnasiums_wrappers_keep_for_each_row_is_known():
    """Whatever has one place for each row is on the list, so a new attribute of a new Gymnasium is noticed."""
    tried = set()
    for name in gymnasium_wrappers.__all__:
        try:
            kind = getattr(gymnasium_wrappers, name)
            wrapper = kind(ForkableVectorEnv([Walk] * 37))
        except (TypeError, ImportError, AssertionError, ValueError, gym.error.Error):
            continue  # needs arguments, or other observations
        arrays = {name for name, value in vars(wrapper).items() if isinstance(value, np.ndarray) and value.shape[:1] == (37,)}
        arrays -= {"out"}  # where observations are written, anew in each step
        assert arrays == GYMNASIUMS.get(kind, frozenset()), kind
        tried.add(kind)
    assert tried >= GYMNASIUMS.keys()


def test_rows_of_another_kind_are_refused():
    with pytest.raises(ConfigError, match="Rows of SyncVectorEnv cannot be forked"):
        fork(SyncVectorEnv([TownEnv] * 2), 0, [1])


def test_a_failure_travels_between_processes():
    error = RowError(1, {1: OSError("lost")}, {0: "step"})
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.row, again.steps) == (str(error), 1, {0: "step"})
