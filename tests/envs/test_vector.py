"""The vector environment does what Gymnasium's own does, and works in Gymnasium's wrappers."""

import functools
import json
import os
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics
from hypothesis import given, settings
from hypothesis import strategies as st
from test_laws import IDS, SMALL, made
from toys import TownEnv, Walk
from vector_toys import ANSWER, MODES, NOTE_A, NOTE_B, pair, shown, towns

from arpo_envs.errors import ConfigError, RowError
from arpo_envs.spaces import TextSpace
from arpo_envs.testing.scripts import default_scripts
from arpo_envs.vector import ForkableVectorEnv, ids

every_id = pytest.mark.parametrize("name", IDS)
every_mode = pytest.mark.parametrize("mode", MODES, ids=[mode.value for mode in MODES])
ACTIONS = {
    TownEnv: [NOTE_A, NOTE_B, "<echo>é 你好</echo>", ANSWER, "<answer>Chad</answer>", "junk", ""],
    Walk: [0, 1, 2],
}


@pytest.fixture(autouse=True, scope="module")
def _registered():
    gym.register("Toy/Rows-v0", entry_point="toys:TownEnv", max_episode_steps=4)
    gym.register("Toy/Walks-v0", entry_point="toys:Walk", max_episode_steps=4)
    gym.register("Toy/OurRows-v0", entry_point="toys:TownEnv", vector_entry_point="arpo_envs.vector.ids:Toy/OurRows-v0")
    yield
    for name in ("Toy/Rows-v0", "Toy/Walks-v0", "Toy/OurRows-v0"):
        del gym.registry[name]


# --- as Gymnasium's -----------------------------------------------------------------------------------


def mask_of(rows: list[int], count: int) -> dict[str, Any]:
    return {"reset_mask": np.isin(np.arange(count), rows)}


@pytest.mark.parametrize(("name", "kind"), [("Toy/Rows-v0", TownEnv), ("Toy/Walks-v0", Walk)])
@every_mode
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_step_by_step_as_gymnasiums(name, kind, mode, data):
    count = data.draw(st.integers(1, 4))
    seed = data.draw(st.one_of(st.integers(0, 99), st.lists(st.integers(0, 9), min_size=count, max_size=count)))
    ours, theirs = pair(lambda: gym.make(name), count, mode)
    assert shown(ours.reset(seed=seed)) == shown(theirs.reset(seed=seed))
    ended = np.zeros(count, bool)
    for _ in range(data.draw(st.integers(1, 10))):
        also = data.draw(st.sets(st.integers(0, count - 1), max_size=1))
        again = [*{*also, *np.flatnonzero(ended)}] if mode is AutoresetMode.DISABLED else [*also]
        if again:
            seeds = data.draw(st.sampled_from([None, 5, list(range(count))]))
            results = [envs.reset(seed=seeds, options=mask_of(again, count)) for envs in (ours, theirs)]
            assert shown(results[0]) == shown(results[1])
        actions = data.draw(st.lists(st.sampled_from(ACTIONS[kind]), min_size=count, max_size=count))
        batched = np.array(actions) if kind is Walk else actions
        returned = ours.step(batched)
        assert shown(returned) == shown(theirs.step(batched))
        ended = returned[2] | returned[3]
    generators = [[rng.bit_generator.state for rng in envs.np_random] for envs in (ours, theirs)]
    assert generators[0] == generators[1]
    assert ours.np_random_seed == theirs.np_random_seed
    ours.close()
    theirs.close()


@every_mode
@every_id
def test_every_id_as_in_gymnasiums_own(name, mode):
    made(name).close()
    ours = gym.make_vec(name, num_envs=3, autoreset_mode=mode.value, **SMALL.get(name, {}))
    kwargs = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": mode}}
    theirs = gym.make_vec(name, num_envs=3, **kwargs, **SMALL.get(name, {}))
    returned = ours.reset(seed=3)
    assert shown(returned) == shown(theirs.reset(seed=3))
    scripts = default_scripts(ours.envs[0], returned[0][0])
    ended = np.zeros(3, bool)
    for turn in range(5):
        if mode is AutoresetMode.DISABLED and ended.any():
            masked = [envs.reset(options={"reset_mask": ended.copy()}) for envs in (ours, theirs)]
            assert shown(masked[0]) == shown(masked[1])
        actions = [script[turn % len(script)] for script in scripts]
        returned = ours.step(actions)
        assert shown(returned) == shown(theirs.step(actions))
        assert returned[0] in ours.observation_space
        ended = returned[2] | returned[3]
    ours.close()
    theirs.close()


@every_id
def test_make_vec_picks_it_by_itself(name):
    made(name).close()
    envs = gym.make_vec(name, num_envs=2, **SMALL.get(name, {}))
    assert type(envs) is ForkableVectorEnv
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert (envs.single_observation_space, envs.single_action_space) == (TextSpace(), TextSpace())
    assert envs.action_space.sample() in envs.action_space
    assert [env.spec.id for env in envs.envs] == [name, name]
    assert [type(env) for env in envs.envs] == [type(made(name))] * 2
    assert envs.spec.id == name
    again = gym.make_vec(EnvSpec.from_json(envs.spec.to_json()))
    assert again.num_envs == 2
    assert shown(again.reset(seed=1)) == shown(envs.reset(seed=1))
    envs.close()
    again.close()


def test_an_outsiders_id_names_itself_in_its_entry_point():
    envs = gym.make_vec("Toy/OurRows-v0", num_envs=2, render_mode="ansi", max_turns=3)
    observations, _ = envs.reset(seed=0)
    assert envs.render() == observations
    assert envs.get_attr("max_turns") == (3, 3)
    envs.close()


def test_what_is_no_id_is_no_attribute():
    with pytest.raises(AttributeError, match="for each id, such as 'ARPO/Search-v0', but not 'make_row'"):
        ids.make_row  # noqa: B018


def test_options_are_left_as_they_are():
    """Gymnasium's own takes the mask out of them, so that its wrapper for statistics no longer finds it."""
    envs = towns(2)
    envs.reset(seed=0, options={"task": "t1"})
    options = {"reset_mask": np.array([False, True]), "task": "t2"}
    observations, infos = envs.reset(options=options)
    assert observations == ("Where is Kyoto?", "Where is Quito?")
    assert shown(infos["task"]) == ("object", [None, "t2"])
    assert set(options) == {"reset_mask", "task"}
    envs.close()


# --- in Gymnasium's wrappers --------------------------------------------------------------------------


@every_mode
def test_statistics_are_those_of_gymnasiums_own(mode):
    ours, theirs = map(RecordEpisodeStatistics, pair(functools.partial(TownEnv, max_turns=3), 2, mode))
    assert shown(ours.reset(seed=2)) == shown(theirs.reset(seed=2))
    for actions in ([NOTE_A, ANSWER], [NOTE_A, NOTE_B], [ANSWER, ANSWER]):
        returned = ours.step(actions)
        assert shown(returned) == shown(theirs.step(actions))
        if mode is AutoresetMode.DISABLED and (ended := returned[2] | returned[3]).all():
            for envs in (ours, theirs):
                envs.reset(seed=5)
        elif mode is AutoresetMode.DISABLED and ended.any():
            break
    assert (list(ours.return_queue), list(ours.length_queue)) == (list(theirs.return_queue), list(theirs.length_queue))
    assert ours.episode_count >= 1
    ours.close()
    theirs.close()


def test_statistics_of_other_rows_outlive_a_reset_by_mask():
    envs = RecordEpisodeStatistics(towns(2))
    envs.reset(seed=0, options={"task": "t0"})
    envs.step([NOTE_A, ANSWER])
    envs.reset(options={"reset_mask": np.array([False, True]), "task": "t0"})
    *_, infos = envs.step([ANSWER, NOTE_A])
    assert (infos["episode"]["l"].tolist(), infos["episode"]["r"].tolist()) == ([2, 0], [1.0, 0.0])
    envs.close()


def test_infos_become_a_list_of_dicts():
    envs = DictInfoToList(towns(2))
    _, infos = envs.reset(seed=0, options={"task": "t0"})
    assert [info["task"] for info in infos] == ["t0", "t0"]
    *_, infos = envs.step([NOTE_A, ANSWER])
    assert [info.get("answer") for info in infos] == [None, "France"]
    envs.close()


# --- the rest of Gymnasium's interface ----------------------------------------------------------------


def test_attributes_and_methods_of_rows():
    envs = ForkableVectorEnv([lambda: gym.make("Toy/Rows-v0")] * 2)
    envs.reset(seed=0)
    assert envs.call("anchor") == tuple(env.unwrapped.anchor() for env in envs.envs)
    assert envs.get_attr("max_tool_calls") == (6, 6)
    envs.set_attr("result_characters", (10, 20))
    assert [env.unwrapped.result_characters for env in envs.envs] == [10, 20]
    envs.set_attr("result_characters", 30)
    assert envs.get_attr("result_characters") == (30, 30)
    with pytest.raises(ConfigError, match="Expected 2 values of max_turns, one per row, got 1"):
        envs.set_attr("max_turns", [3])
    envs.close()


@pytest.mark.parametrize("mask", [[True, False], np.array([1, 0]), np.array([True]), np.array([False, False])])
def test_a_mask_that_is_none_is_refused_as_by_gymnasium(mask):
    ours, theirs = pair(TownEnv, 2, AutoresetMode.DISABLED)
    for envs, errors in ((ours, ConfigError), (theirs, (TypeError, ValueError))):
        envs.reset(seed=0)
        with pytest.raises(errors, match="reset_mask"):
            envs.reset(options={"reset_mask": mask})
        envs.close()


def test_seeds_are_counted():
    envs = towns(2)
    with pytest.raises(ConfigError, match="Expected 2 seeds, one per row, got 3"):
        envs.reset(seed=[1, 2, 3])
    envs.close()


def test_rows_need_equal_spaces_and_those_made_before_are_closed():
    closed = []

    class Listens(Walk):
        def close(self) -> None:
            closed.append(self)

    with pytest.raises(ConfigError, match=r"row 0 has Box.*row 1 has TextSpace"):
        ForkableVectorEnv([Listens, TownEnv])
    assert len(closed) == 1


def test_useless_arguments_are_refused():
    with pytest.raises(ConfigError, match="at least one row"):
        ForkableVectorEnv([])
    with pytest.raises(ConfigError, match=r"Known: Disabled, NextStep, SameStep. Did you mean 'SameStep'"):
        gym.make_vec("Toy/OurRows-v0", autoreset_mode="Samestep")


def test_strings_cannot_take_shared_memory_in_gymnasiums_own():
    """Should Gymnasium learn to share strings, the page that advises against it is out of date."""
    with pytest.raises(ValueError, match="shared_memory"):
        gym.make_vec("Toy/Rows-v0", num_envs=1, vectorization_mode="async")


def test_an_info_that_does_not_fit_is_the_fault_of_its_row():
    class Tokens(Walk):
        def observed(self) -> Any:
            return np.array([0]), {"ids": np.arange(self.limit)}

    envs = ForkableVectorEnv([lambda: Tokens(2), lambda: Tokens(3)])
    with pytest.raises(RowError, match=r"Row 1 failed with ValueError: .*broadcast"):
        envs.reset(seed=0)
    envs.close()


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_steps_its_own_rows():
    envs = towns(2)
    envs.reset(seed=1)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, repr(envs.step([NOTE_A, NOTE_B])[0]).encode())
        os._exit(0)
    os.close(writing)
    observations = envs.step([NOTE_A, NOTE_B])[0]
    with os.fdopen(reading) as file:
        assert file.read() == repr(observations)
    os.waitpid(child, 0)
    envs.close()


def test_metadata_is_a_copy():
    envs = towns(1)
    assert "autoreset_mode" not in TownEnv.metadata
    assert json.dumps(envs.metadata["render_modes"]) == '["ansi", "human"]'
    envs.close()
