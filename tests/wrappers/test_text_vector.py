"""`TextVector` marks the words of the question and of what was last seen."""

import zlib

import numpy as np
import pytest
from toys import TownEnv

from arpo_envs import ConfigError, clone, restore, snapshot
from wrappers import TextVector


def places(text: str, size: int) -> set[int]:
    return {zlib.crc32(word.encode()) % size for word in text.split()}


def marked(half: np.ndarray) -> set[int]:
    assert set(half.tolist()) <= {0.0, 1.0}
    return set(np.flatnonzero(half).tolist())


def test_halves_hold_the_question_and_what_was_last_seen():
    env = TextVector(TownEnv(), size=500)
    vector, _ = env.reset(options={"task": "t0"})
    assert vector.shape == (1000,)
    assert vector in env.observation_space
    assert marked(vector[:500]) == marked(vector[500:]) == places("where is bordeaux", 500)
    vector, *_ = env.step("<echo>Étoile</echo>")
    assert marked(vector[:500]) == places("where is bordeaux", 500)
    assert marked(vector[500:]) == places("result you said étoile", 500)
    vector, *_ = env.step("<answer>x</answer>")
    assert marked(vector[500:]) == set()


def test_every_process_numbers_words_alike():
    env = TextVector(TownEnv(), size=16)
    assert marked(env.reset(options={"task": "t0"})[0][:16]) == {6, 7, 15}


def test_it_forks():
    env = TextVector(TownEnv(), size=64)
    env.reset(options={"task": "t0"})
    twin = clone(env)
    with snapshot(env) as snap:
        last, _ = env.last()
        env.reset(options={"task": "t1"})
        assert marked(twin.step("<echo>hi</echo>")[0][:64]) == marked(last[:64])
        assert restore(env, snap)[0].tolist() == last.tolist()
        assert env.step("<echo>hi</echo>")[0].tolist() == twin.last()[0].tolist()


def test_no_size_is_refused():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        TextVector(TownEnv(), size=0)
