"""Trains without our trainer: `collect` grows the trees, thirty lines of torch do the rest.

Model and tokenizer are built here and are tiny; a few seconds of imitation teach the model to write
actions at all. Two steps show the mechanics and are far too few to learn anything.

python examples/hand_written_loop.py
"""

import asyncio

import gymnasium as gym
import numpy as np
import torch

import algorithms
import arpo_envs  # noqa: F401  # importing it registers the environments
from algorithms.models.embedded.cold_start import ColdStartConfig, build, cold_start
from algorithms.policies.local import LocalPolicy
from algorithms.rendering import TextRenderer

STEPS, PROMPTS = 2, 4


def make_env() -> gym.Env:
    """Returns a training environment on a small part of the world."""
    return gym.make("ARPO/SearchMini-v0", split="train", cities_per_country=4)


def update(model, optimizer, trees) -> float:
    """One policy-gradient step: reward minus the group's mean, for every token that the policy drew."""
    optimizer.zero_grad()
    losses = []
    for tree in trees:
        rewards = np.array([tree.total_reward(leaf) for leaf in tree.leaves()])
        for leaf, advantage in zip(tree.leaves(), rewards - rewards.mean(), strict=True):
            # A path is the walk from the prompt to a leaf; `sampled` says which tokens are the policy's own.
            segments = [(tree.nodes[i], stop) for i, stop in tree.path(leaf)]
            ids = torch.tensor([token for node, stop in segments for token in node.tokens[:stop]])
            mine = torch.tensor([drawn for node, stop in segments for drawn in node.sampled[:stop]])
            logits = model(input_ids=ids[None, :-1]).logits[0]
            logprob = torch.log_softmax(logits, -1).gather(-1, ids[1:, None])[:, 0]
            losses.append(-float(advantage) * logprob[mine[1:]].sum())
    loss = torch.stack(losses).mean()
    loss.backward()
    optimizer.step()
    return loss.item()


async def main() -> None:
    """Builds the parts, then takes the steps."""
    size = ColdStartConfig(
        hidden=32,
        layers=1,
        heads=2,
        echo_steps=0,
        drill_steps=0,
        imitation_steps=80,
        imitation_rate=1e-2,
        batch=16,
        lessons=100,
    )
    model, tokenizer = build(make_env, size, seed=0)
    renderer = TextRenderer(tokenizer, with_instructions=False)
    cold_start(make_env, model, tokenizer, renderer, size, seed=0, report=lambda *progress: None)
    model.eval()

    policy = LocalPolicy(model, tokenizer)  # a copy: it changes when new weights are loaded
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    arpo = algorithms.make("arpo", rollouts=8, roots=4, probe=4)
    limits = algorithms.Limits(action_tokens=16, answer_reserve=16)
    for step in range(STEPS):
        starts = [algorithms.Start(seed=PROMPTS * step + i) for i in range(PROMPTS)]
        trees = await algorithms.collect(make_env, starts, policy, renderer, arpo, seed=0, step=step, limits=limits)
        loss = update(model, optimizer, trees)
        await policy.load(model.state_dict(), step + 1)
        mean = np.mean([tree.total_reward(leaf) for tree in trees for leaf in tree.leaves()])
        forks = sum(node.origin == "branch" for tree in trees for node in tree.nodes)
        print(f"step {step + 1}: reward {mean:.2f}, {forks} forks, loss {loss:.3f}")
    await policy.close()


if __name__ == "__main__":
    asyncio.run(main())
