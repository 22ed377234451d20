"""`TokenIds` passes text on as ids, keeps control tokens apart from it, and shares its tokenizer."""

import threading

import numpy as np
import pytest
from toys import Letters, TownEnv

from arpo_envs import ConfigError, clone, restore, snapshot
from wrappers import TokenIds


class Locked(Letters):
    """One that cannot be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Controlled(Letters):
    """As those of `transformers`: with control tokens, which it reads in texts and adds to them unless told otherwise."""

    all_special_tokens = ("<s>", "<|end|>")

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        first, *others = text.replace("<s>", "\uffff").split("<|end|>")
        ids = super().encode(first)
        for other in others:
            ids += [257, *super().encode(other)]
        return [256, *ids] if add_special_tokens else ids

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        parts = [bytes([token]) if token < 256 else b"" if skip_special_tokens else b"<|end|>" for token in ids]
        return b"".join(parts).decode()

    def __len__(self) -> int:
        return 258


def ids(text: str) -> list[int]:
    return list(text.encode())


def test_text_in_text_out():
    env = TokenIds(TownEnv(), Letters())
    question, _ = env.reset(options={"task": "t0"})
    assert question.tolist() == ids("Where is Bordeaux?")
    assert question.dtype == np.int64
    observation, *_ = env.step(ids("<echo>é</echo>"))
    assert observation.tolist() == ids("<result>You said é</result>")
    assert observation in env.observation_space
    observation, reward, terminated, *_ = env.step(np.array(ids("<answer>France</answer>")))
    assert (observation.tolist(), reward, terminated) == ([], 1.0, True)
    assert observation in env.observation_space


def test_text_never_becomes_a_control_token_and_control_tokens_no_text():
    env = TokenIds(TownEnv(), Controlled())
    env.reset(seed=0)
    observation, *_ = env.step(ids("<echo>a<|end|>b<s>"))
    assert max(observation) < 256
    observation, *_ = env.step([*ids("<echo>a<|end|>b<s></echo>"), 257])
    assert observation.tolist() == ids("<result>You said a<|end|>b<s></result>")
    *_, info = env.step([*ids("<answer>France"), 257, *ids("</answer>")])
    assert info["answer"] == "France"


def test_the_tokenizer_is_shared_not_copied():
    tokenizer = Locked()
    env = TokenIds(TownEnv(), tokenizer)
    env.reset(seed=0)
    twin = clone(env)
    with snapshot(env) as snap:
        last = env.last()
        env.step(ids("<echo>left</echo>"))
        assert twin.step(ids("<echo>hi</echo>"))[0].tolist() == ids("<result>You said hi</result>")
        observation, info = restore(env, snap)
    assert observation.tolist() == last[0].tolist()
    assert info == last[1]
    assert env._tokenizer is twin._tokenizer is tokenizer


def test_a_path_that_leads_nowhere_is_refused():
    with pytest.raises(ConfigError, match="tokenizer='nowhere:Letters' cannot be imported"):
        TokenIds(TownEnv(), "nowhere:Letters")
