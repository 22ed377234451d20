"""Every recipe, and its notable variants, with few rollouts."""

from typing import Any

from algorithms import Algorithm, make

SMALL: dict[str, dict[str, Any]] = {
    "arpo": {"rollouts": 4, "roots": 2, "probe": 3},
    "arpo, reference": {"rollouts": 4, "roots": 2, "probe": 3, "implementation": "reference"},
    "arpo, corrected": {"rollouts": 4, "roots": 2, "probe": 3, "baseline": "siblings", "shared_once": True, "kl": 0.01},
    "aepo": {"rollouts": 5, "probe": 3},
    "cispo": {"rollouts": 3},
    "dapo": {"rollouts": 3, "overlong": (30, 20), "refills": 1},
    "dr_grpo": {"rollouts": 3, "length": 20},
    "fixed_branching": {"rollouts": 4, "roots": 2, "aggregation": "sequence"},
    "gigpo": {"rollouts": 3},
    "grpo": {"rollouts": 3, "skip_equal": True},
    "gspo": {"rollouts": 3},
    "gspo, token": {"rollouts": 3, "level": "token"},
    "ppo": {"rollouts": 2},
    "random_branching": {"rollouts": 4, "roots": 2},
    "reinforce_plus_plus": {"rollouts": 2},
    "reinforce_plus_plus_baseline": {"rollouts": 3},
    "rloo": {"rollouts": 3},
    "rloo, clipped": {"rollouts": 3, "clip": 0.2, "kl": 0.01},
    "spo_tree": {"fan_outs": (2, 2), "segment": 5},
    "tree_grpo": {"rollouts": 4},
    "tree_po": {"rollouts": 4, "segment": 5, "depth": 3, "refills": 1},
    "tree_rl": {"rollouts": 6, "roots": 2, "siblings": 1},
}


def small(case: str) -> Algorithm:
    return make(case.partition(",")[0], **SMALL[case])
