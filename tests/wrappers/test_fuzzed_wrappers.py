"""Whatever is done through a wrapper, and whatever comes back through it: never an exception, never an unearned reward."""

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from envs.hostile import spoil
from envs.test_fuzz import MANY, MEGABYTE, Episode, fragments, written
from envs.test_laws import IDS, made
from test_wrapper_laws import HEAVY, OURS

from wrappers import ActionMenu, Prompted, TokenIds

LIGHT = [name for name in IDS if name not in HEAVY and "Mixture" not in name]
CASES = [
    pytest.param(wrapper, dialect, LIGHT[(2 * number + second) % len(LIGHT)], id=f"{wrapper}-{dialect}")
    for number, wrapper in enumerate(OURS)
    for second, dialect in enumerate(("tags", "json"))
]
"""Every wrapper in both dialects, around environments in turn; without any, all are fuzzed elsewhere."""


def wrapped(wrapper: str, env: Any, dialect: str) -> Any:
    """Returns an environment in a wrapper; a published prompt is about one dialect only."""
    return Prompted(env) if wrapper == "Prompted" and dialect == "json" else OURS[wrapper](env)


def chosen(env: Any, text: str, rng: random.Random, info: Mapping[str, Any]) -> tuple[Any, str]:
    """Returns an action for a wrapper, made of a text where it can be, and what its environment hears."""
    if isinstance(env, ActionMenu):
        number = rng.randrange(env.action_space.n)
        return number, info["menu"][number]
    if not isinstance(env, TokenIds):
        return text, text
    ids = list(text.encode("utf-8", "surrogatepass"))
    if rng.random() < 0.3:
        ids.insert(rng.randrange(len(ids) + 1), rng.randrange(256))
    return ids, bytes(ids).decode("utf-8", "replace")


@pytest.mark.slow
@pytest.mark.parametrize(("wrapper", "dialect", "name"), CASES)
def test_2000_random_actions_through_a_wrapper_raise_nothing_and_earn_nothing_that_is_wrong(
    wrapper: str, dialect: str, name: str
) -> None:
    bare: Any = made(name, dialect=dialect).unwrapped
    spoil(bare)
    env, rng, seen, over = wrapped(wrapper, bare, dialect), random.Random(f"{wrapper} {dialect}"), Counter[str](), True
    for number in range(MANY):
        if over:
            _, info = env.reset(seed=rng.randrange(50))
            episode, pieces = Episode(bare.task), fragments(bare, bare.task.answers[0])
        text = written(rng, pieces, bare)
        if number in (MANY // 3, MANY // 2):
            text += "x" * MEGABYTE
        action, heard = chosen(env, text, rng, info)
        observation, reward, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        assert observation in env.observation_space
        assert min([*info.get("calls_left", {}).values(), info.get("tokens_left", 0), info.get("turns_left", 0)]) >= 0
        # a wrapper that ends an episode knows nothing of its success
        told = {**info, "success": info.get("success", 0.0)} if truncated else info
        episode.judge(heard, (str(observation), reward, terminated, truncated, told), dialect)
        if isinstance(observation, str) and dialect == "tags" and info["status"] not in ("mistake", "limit"):
            assert f"<answer>{episode.task.answers[0]}</answer>" not in observation
        seen[info["status"]] += 1
        seen["right"] += info.get("success") == 1.0
    env.close()
    assert {"ok", "answered", "right"} <= {*+seen}, seen
