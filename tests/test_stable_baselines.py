"""The real Stable-Baselines3: its checker accepts the menu, and PPO learns to search with it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from wrappers import ActionMenu, TextVector

ACTIONS = 24
EPISODES = 300

SUBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "two hops": ("ARPO/SearchMini-v0", {}),
    "one hop": ("ARPO/Search-v0", {"hops": 1, "results": 1}),
}


def stack(subject: str, split: str = "train") -> gym.Env:
    name, arguments = SUBJECTS[subject]
    return TextVector(ActionMenu(gym.make(name, split=split, **arguments), ACTIONS), size=128)


def success(subject: str, act: Callable[[Any], int]) -> float:
    """Returns the share of held-out questions that are answered right."""
    env = stack(subject, "test")
    right = 0.0
    for seed in range(EPISODES):
        observation, info = env.reset(seed=seed)
        over = False
        while not over:
            observation, _, terminated, truncated, info = env.step(act(observation))
            over = terminated or truncated
        right += info["success"]
    return right / EPISODES


@pytest.mark.parametrize("subject", SUBJECTS)
def test_its_checker_accepts_the_menu(subject):
    from stable_baselines3.common.env_checker import check_env

    check_env(stack(subject))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("subject", [pytest.param("two hops", marks=pytest.mark.thorough), "one hop"])
def test_ppo_learns_to_search(subject):
    """Trained on some questions, it answers others: two of three, where chance answers one of 250, or one of 50."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    rng = np.random.default_rng(0)
    by_chance = success(subject, lambda observation: int(rng.integers(ACTIONS)))
    model = PPO(
        "MlpPolicy",
        DummyVecEnv([partial(stack, subject)] * 8),
        n_steps=128,
        batch_size=256,
        n_epochs=4,
        learning_rate=1e-3,
        gamma=0.97,
        ent_coef=0.03,
        policy_kwargs={"net_arch": [128, 128]},
        seed=0,
        device="cpu",
    ).learn(40_000)
    learned = success(subject, lambda observation: int(model.predict(observation)[0]))
    assert by_chance < 0.06
    assert learned > 0.4
