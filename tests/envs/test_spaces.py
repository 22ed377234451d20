"""The text space: what it holds, and that Gymnasium can use it."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import CustomSpaceError
from gymnasium.vector.utils import batch_space, create_shared_memory
from hypothesis import given
from hypothesis import strategies as st
from toys import TownEnv

from arpo_envs.spaces import MAX_TEXT, TextSpace


@given(st.text(max_size=200))
def test_holds_any_text_that_encodes(text):
    assert text in TextSpace()
    assert text.encode("utf-8").decode("utf-8") == text


@given(st.text(st.characters(categories=["Cs"]), min_size=1), st.text())
def test_refuses_lone_surrogates(surrogates, text):
    assert text + surrogates not in TextSpace()
    assert surrogates + text not in TextSpace()


@pytest.mark.parametrize("other", [b"bytes", 3, None, ["a"], np.array("a")])
def test_refuses_what_is_no_text(other):
    assert other not in TextSpace()


def test_length_is_bounded():
    space = TextSpace(3)
    assert "abc" in space
    assert "🙂🙂🙂" in space
    assert "abcd" not in space
    assert "a" * MAX_TEXT in TextSpace()
    assert "a" * (MAX_TEXT + 1) not in TextSpace()
    with pytest.raises(ValueError, match="at least 1, got 0"):
        TextSpace(0)


def test_samples_lie_inside_and_follow_the_seed():
    for length in (1, 5, MAX_TEXT):
        one, other = TextSpace(length, seed=3), TextSpace(length, seed=3)
        samples = [one.sample() for _ in range(200)]
        assert samples == [other.sample() for _ in range(200)]
        assert all(sample in one for sample in samples)
        assert len(set(samples)) > 10
        assert "" in samples


def test_a_mask_means_nothing():
    with pytest.raises(ValueError, match="neither mask nor probability"):
        TextSpace().sample(mask=np.ones(3))


def test_equality_is_about_the_texts():
    assert TextSpace() == TextSpace(seed=4)
    assert TextSpace(4) != TextSpace(5)
    assert TextSpace() != gym.spaces.Text(MAX_TEXT)
    with pytest.raises(TypeError, match="unhashable"):
        hash(TextSpace())
    assert repr(TextSpace(7)) == "TextSpace(7)"


def test_copies_go_on_alike():
    space = TextSpace(seed=1)
    space.sample()
    copies = [copy.deepcopy(space), pickle.loads(pickle.dumps(space))]
    wanted = [space.sample() for _ in range(5)]
    for twin in copies:
        assert twin == space
        assert [twin.sample() for _ in range(5)] == wanted


def test_a_copy_has_a_state_of_its_own():
    space = TextSpace()
    space.seen = ["a"]  # as a space of somebody else's may have
    twin = copy.deepcopy(space)
    twin.seen.append("b")
    assert space.seen == ["a"]


def test_json_round_trip():
    space = TextSpace()
    texts = ["", "é", "🙂\n"]
    assert space.from_jsonable(space.to_jsonable(texts)) == texts


def test_vectors_of_it():
    assert batch_space(TextSpace(), 2) == gym.spaces.Tuple([TextSpace(), TextSpace()])
    with pytest.raises(CustomSpaceError):  # Gymnasium's own Text is accepted here and comes back as "0000…"
        create_shared_memory(TextSpace(), n=2)
    envs = gym.vector.SyncVectorEnv([TownEnv, TownEnv])
    observations, _ = envs.reset(seed=0)
    assert all(observation.startswith("Where is") for observation in observations)
    envs.close()
