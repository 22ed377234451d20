"""PPO in one file, in the style of CleanRL, on the vector environment: it learns to look a fact up and to answer with it.

python examples/ppo_single_file.py
"""

import re

import gymnasium as gym
import numpy as np
import torch
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from torch import nn
from torch.distributions import Categorical

import arpo_envs  # noqa: F401  # registers the environments

SEED, ROWS, STEPS, UPDATES, EPOCHS = 1, 16, 16, 25, 4
LEARNING_RATE, GAMMA, LAMBDA, CLIP, ENTROPY, VALUE = 1e-2, 0.95, 0.95, 0.2, 0.01, 0.5

# The policy chooses from a menu: search for the name in the question, or answer with one of the facts last seen.
FACTS = ["capital", "currency", "calling code", "internet domain", "ISO code", "largest other city"]
MENU = ["search", *FACTS]


def written(choice: int, question: str, result: str) -> str:
    """Returns the text of a choice."""
    if MENU[choice] == "search":
        return f"<search>{question.rpartition(' of ')[2].rstrip('?')}</search>"
    fact = re.search(rf"{MENU[choice]} ([^;]+);", result)
    return f"<answer>{fact[1] if fact else 'unknown'}</answer>"


def features(questions: list[str], results: list[str]) -> torch.Tensor:
    """Returns [rows, features]: which fact is asked for, and whether there is a result."""
    return torch.tensor([[fact in q for fact in FACTS] + [bool(r)] for q, r in zip(questions, results, strict=True)]).float()


torch.manual_seed(SEED)
torch.set_num_threads(1)
# in the same step in which an episode ends, the row returns the question of the next one
envs = gym.make_vec("ARPO/SearchMini-v0", ROWS, hops=1, relations=FACTS, max_turns=4, autoreset_mode="SameStep")
envs = RecordEpisodeStatistics(envs)

body = nn.Sequential(nn.Linear(len(FACTS) + 1, 32), nn.Tanh())
actor, critic = nn.Linear(32, len(MENU)), nn.Linear(32, 1)
parameters = [*body.parameters(), *actor.parameters(), *critic.parameters()]
optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)

questions, _ = envs.reset(seed=SEED)
questions, results = list(questions), [""] * ROWS
for update in range(1, UPDATES + 1):
    seen = torch.zeros(STEPS, ROWS, len(FACTS) + 1)
    choices = torch.zeros(STEPS, ROWS, dtype=torch.long)
    logprobs, rewards, ends, values = torch.zeros(4, STEPS, ROWS)
    for t in range(STEPS):
        seen[t] = features(questions, results)
        with torch.no_grad():
            hidden = body(seen[t])
            drawn = Categorical(logits=actor(hidden))
            choices[t] = drawn.sample()
            logprobs[t], values[t] = drawn.log_prob(choices[t]), critic(hidden).squeeze(-1)
        actions = [written(*row) for row in zip(choices[t].tolist(), questions, results, strict=True)]
        observations, reward, terminated, truncated, infos = envs.step(actions)
        rewards[t], ends[t] = torch.tensor(reward), torch.tensor(terminated | truncated)
        for row, observation in enumerate(observations):
            if infos["status"][row] == "reset":
                questions[row], results[row] = observation, ""
            else:
                results[row] = observation

    # generalised advantage estimation; an episode's end is worth nothing
    advantages, later = torch.zeros(STEPS, ROWS), torch.zeros(ROWS)
    with torch.no_grad():
        ahead = critic(body(features(questions, results))).squeeze(-1)
    for t in reversed(range(STEPS)):
        goes_on = 1 - ends[t]
        delta = rewards[t] + GAMMA * goes_on * ahead - values[t]
        advantages[t] = later = delta + GAMMA * LAMBDA * goes_on * later
        ahead = values[t]
    returns = advantages + values

    flat_seen, flat_choices = seen.flatten(0, 1), choices.flatten()
    for order in (torch.randperm(STEPS * ROWS) for _ in range(EPOCHS)):
        for batch in order.chunk(4):
            hidden = body(flat_seen[batch])
            drawn = Categorical(logits=actor(hidden))
            ratio = (drawn.log_prob(flat_choices[batch]) - logprobs.flatten()[batch]).exp()
            advantage = advantages.flatten()[batch]
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            policy_loss = -torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage).mean()
            value_loss = (critic(hidden).squeeze(-1) - returns.flatten()[batch]).square().mean()
            optimizer.zero_grad()
            (policy_loss + VALUE * value_loss - ENTROPY * drawn.entropy().mean()).backward()
            nn.utils.clip_grad_norm_(parameters, 0.5)
            optimizer.step()
    if update % 5 == 0 or update == 1:
        print(f"update {update:2}: mean return of the last 100 episodes {np.mean(envs.return_queue):.2f}")
envs.close()
