"""Plays episodes of ARPO/Search-v0 through the ordinary Gymnasium loop, with a small scripted agent.

python examples/play_an_env.py
"""

import re
from collections.abc import Iterator

import gymnasium as gym

import arpo_envs  # noqa: F401  # importing it registers the environments


def agent(question: str) -> Iterator[str]:
    """Yields actions and is sent observations. Questions are resolved from the inside out.

    For "What is the capital of the country of Köln?" it first looks up Köln, finds the country, looks
    that up, and finds the capital.
    """
    relations, name = re.fullmatch(r"What is (.*) of (.+?)\?", question).groups()
    for relation in reversed(relations.removeprefix("the ").split(" of the ")):
        result = yield f"<search>{name}</search>"
        # documents read "Köln: city in Germany; population 963,395; …", so a city's country comes first
        fact = re.search(rf"[;:] {relation} ([^;]+?)[;.](?: |$|<)", result) or re.search(r": \w+ in ([^;]+);", result)
        name = fact[1] if fact else "unknown"
    yield f"<answer>{name}</answer>"


def play(env: gym.Env, seed: int) -> float:
    """Plays one episode and returns whether the answer was right."""
    question, info = env.reset(seed=seed)
    print(f"\n{question}")
    player = agent(question)
    action, over = next(player), False
    while not over:
        observation, reward, terminated, truncated, info = env.step(action)
        print(f"  {action}   {observation[:80]}")
        over = terminated or truncated
        if not over:
            action = player.send(observation)
    print(f"  reward {reward:g} after {info['tool_calls']} tool calls")
    return info["success"]


if __name__ == "__main__":
    env = gym.make("ARPO/Search-v0", hops=2, split="test", results=1)
    successes = [play(env, seed) for seed in range(5)]
    env.close()
    print(f"\n{sum(successes):g} of {len(successes)} right")
