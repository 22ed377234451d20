"""Lets a trained policy answer questions with tools, and prints the transcript.

python examples/inference.py runs/arpo-seed1                       # a few held-out questions
python examples/inference.py runs/arpo-seed1 "What is the capital of the country of Köln?"

The folder holds a run, or any Hugging Face causal language model; a larger model is given instructions.
"""

import asyncio
import sys
from pathlib import Path

import gymnasium as gym

import arpo_envs
from algorithms.cli.config import TrainConfig
from algorithms.cli.parts import renderer_for
from algorithms.cli.policy_source import model_in
from algorithms.models.loading import load_policy
from algorithms.policies import Sampling
from algorithms.policies.local import LocalPolicy

HELD_OUT = 3


class OneQuestion:
    """A task source with one question of your own, whose answer is not known."""

    name = "one question"

    def __init__(self, question: str) -> None:
        self.task = arpo_envs.Task("mine", question, answers=())

    def draw(self, rng) -> arpo_envs.Task:
        """Returns the question."""
        return self.task

    def get(self, task_id: str) -> arpo_envs.Task:
        """Returns the question."""
        return self.task


def make_env(question: str | None) -> gym.Env:
    """Returns the environment of `arpo train`, on held-out questions or on one of your own."""
    if question is None:
        return gym.make("ARPO/SearchMini-v0", split="test")
    relations = None  # they choose among the built-in questions, so they cannot be combined with your own
    return gym.make("ARPO/SearchMini-v0", tasks=OneQuestion(question), relations=relations)


async def answer(env: gym.Env, policy: LocalPolicy, renderer, seed: int, action_tokens: int) -> None:
    """Plays one episode, greedily."""
    question, info = env.reset(seed=seed)
    print(f"\n{question}")
    tokens = list(renderer.start(env.unwrapped.instructions, question, env.unwrapped.tool_specs))
    over = False
    while not over and (room := policy.context_length - len(tokens)) > 0:
        stop = tuple(env.unwrapped.dialect.stop)
        params = Sampling(min(action_tokens, room), temperature=0.0, stop=stop, stop_tokens=renderer.stop_tokens)
        drawn = await policy.generate(tokens, params, seed=seed)
        action = renderer.text(drawn.tokens)
        observation, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        print(f"  {action.strip()}")
        if observation:
            print(f"    {observation}")
        # sampled ids are kept as they are; only the observation is encoded
        encoded = renderer.observation(observation, max(0, policy.context_length - len(tokens) - len(drawn.tokens)))
        tokens += [*drawn.tokens, *encoded.tokens]
        over = over or not encoded.fits
    gold = env.unwrapped.task.answers
    if gold:
        print(f"  {'right' if info.get('success') == 1 else 'wrong'}: the answer is {gold[0]}")


async def main(folder: Path, question: str | None) -> None:
    """Loads the policy and lets it answer."""
    folder = model_in(folder)
    sizes = TrainConfig(policy=str(folder), output=folder).resolved()  # lengths, as in training
    model, tokenizer = load_policy(folder)
    renderer = renderer_for(folder, tokenizer)
    policy = LocalPolicy(model, tokenizer, context_length=sizes.context_length)
    env = make_env(question)
    for seed in range(HELD_OUT if question is None else 1):
        await answer(env, policy, renderer, seed, sizes.limits.action_tokens)
    env.close()
    await policy.close()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        asyncio.run(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) == 3 else None))
    except arpo_envs.ArpoError as error:  # a user error: the message says which
        sys.exit(str(error))
