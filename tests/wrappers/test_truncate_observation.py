"""`TruncateObservation` keeps the beginning and the end, and says how much is missing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import TownEnv

from arpo_envs import ConfigError, clone, restore, snapshot
from wrappers import TruncateObservation

MARK = re.compile(r"\n… \[cut: (\d+) characters\] …\n")

texts = st.text(st.sampled_from("ab é你\n "), max_size=400)


@given(texts, st.integers(0, 60), st.integers(60, 200))
def test_what_is_kept_and_what_is_cut_make_the_whole(text, end, more):
    env = TruncateObservation(TownEnv(), characters=end + more, end=end)
    shown = env.observation(text)
    if len(text) <= end + more:
        assert shown == text
        return
    assert len(shown) <= end + more
    mark = MARK.search(shown)
    beginning, ending = shown[: mark.start()], shown[mark.end() :]
    assert text.startswith(beginning)
    assert text.endswith(ending)
    assert len(beginning) + int(mark[1]) + len(ending) == len(text)
    assert env.observation(shown) == shown


@given(texts.filter(lambda text: len(text) > 200))
def test_words_stay_whole_where_there_is_a_break_nearby(text):
    """In half of what could be kept there is a space or line break, or the cut is where the room ends."""
    env = TruncateObservation(TownEnv(), characters=200, end=80)
    shown = env.observation(text)
    mark = MARK.search(shown)
    room = 200 - 80 - len(f"\n… [cut: {len(text)} characters] …\n")
    if re.search(r"[ \n]", text[room // 2 : room]):
        assert text[mark.start()] in " \n"
    else:
        assert mark.start() == room
    ending = shown[mark.end() :]
    if re.search(r"[ \n]", text[-80:-40]):
        assert text[len(text) - len(ending) - 1] in " \n"
    else:
        assert len(ending) == 80


def test_a_line_break_is_better_than_a_space():
    env = TruncateObservation(TownEnv(), characters=80, end=0)
    text = "a line of words that are short\nand more words in another line" + " x" * 100
    assert env.observation(text) == "a line of words that are short\n… [cut: 231 characters] …\n"


def test_the_mark_that_closes_a_result_stays():
    env = TruncateObservation(TownEnv(max_turns=2), characters=200)
    env.reset(seed=0)
    observation = env.step(f"<echo>{'word ' * 200}</echo>")[0]
    assert observation.startswith("<result>You said word")
    assert observation.endswith("This is your last turn: answer now.</result>")


def test_restore_returns_what_was_shown():
    env = TruncateObservation(TownEnv(), characters=160)
    env.reset(seed=0)
    observation = env.step(f"<echo>{'word ' * 200}</echo>")[0]
    with snapshot(env) as snap:
        clone(env).step("<echo>hi</echo>")
        env.step("<echo>hi</echo>")
        assert restore(env, snap)[0] == observation


@pytest.mark.parametrize(("characters", "end"), [(100, 50), (60, 1), (200, -1)])
def test_no_room_is_refused(characters, end):
    with pytest.raises(ConfigError, match=rf"got {characters} and {end}"):
        TruncateObservation(TownEnv(), characters, end)
