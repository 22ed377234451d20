"""Forks an episode in the middle: snapshot, restore and clone work through any stack of wrappers.

python examples/fork_an_env.py
"""

import gymnasium as gym
from gymnasium.wrappers import RecordEpisodeStatistics

import arpo_envs

# gym.make's own wrappers and Gymnasium's statistics: all of them travel with a clone
env = RecordEpisodeStatistics(gym.make("ARPO/Search-v0", hops=2, split="test", results=1))
question, info = env.reset(seed=0)
print(question)
observation, *_ = env.step("<search>Brunei</search>")
print("looked up:  ", observation)

# A clone is independent: what happens in it does not happen here, and the search was not run again.
twin = arpo_envs.clone(env)
observation, reward, *_ = twin.step("<answer>Brunei Town</answer>")
print("the clone guesses:      reward", reward)

# A snapshot is a parked copy, to which you can return any number of times.
with arpo_envs.snapshot(env) as before:
    for answer in ("Asia/Tokyo", "Asia/Brunei"):
        observation, reward, terminated, truncated, info = env.step(f"<answer>{answer}</answer>")
        print(f"with {answer:<12}      reward {reward:g}, episode length {info['episode']['l']}")
        observation, info = arpo_envs.restore(env, before)
print(f"back in time:           turn {info['turn']}, {info['tool_calls']} tool call, {observation[:24]}…")

# Many children at once, each with randomness of its own; one that fails would be a value, not an exception.
children = arpo_envs.clone_many(env, seeds=[1, 2, 3])
print("children:              ", len(children), "· fork level:", arpo_envs.fork_level(env).value)

for one in (env, twin, *children):
    one.close()
