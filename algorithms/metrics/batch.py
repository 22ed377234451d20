"""Metrics of a batch of trees: pure functions, flat names."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..advantages import rewards
from ..tree import RolloutTree, Status, total_tool_calls


def as_json(value: Any) -> Any:
    """Returns a value for JSON, which has no NaN and no infinity: they become None, however deep they lie.

    >>> as_json({"loss": float("nan"), "interval": (0.5, float("inf"))})
    {'loss': None, 'interval': [0.5, None]}
    """
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: as_json(one) for name, one in value.items()}
    return [as_json(one) for one in value] if isinstance(value, list | tuple) else value


FAILED = tuple(status for status in Status if not status.is_model)
"""How a path can fail through no fault of the model."""


def summarise(trees: Sequence[RolloutTree]) -> dict[str, float]:
    """Returns the flat metrics of a batch; means and shares are over leaves, "per prompt" over trees.

    Executed, inherited and replayed tool calls are counted separately. Leaves that failed through no
    fault of the model count in `failed_leaves` only; `failed_by_status` lists them separately. What environments measure is
    called "env/NAME"; see `measures`.
    """
    leaves = [tree.nodes[leaf] for tree in trees for leaf in tree.leaves()]
    statuses = Counter(leaf.status for leaf in leaves)
    groups = [reward_L[valid_L] for reward_L, valid_L in map(rewards, trees)]
    reward_L = np.concatenate(groups) if groups else np.zeros(0)
    success = [leaf.success or 0.0 for leaf in leaves if leaf.status is not None and leaf.status.is_model]
    origins = Counter(node.origin for tree in trees for node in tree.nodes)
    actions = [np.asarray(node.entropies) for tree in trees for node in tree.nodes if node.kind == "action"]
    entropy_T = np.concatenate([np.zeros(0), *actions])  # in float64
    prompts = max(1, len(trees))
    calls = total_tool_calls(trees)
    depths = fork_depths(trees)
    return {
        "reward": float(reward_L.mean()) if len(reward_L) else 0.0,
        "success": float(np.mean(success)) if success else 0.0,
        "entropy": float(entropy_T.mean()) if len(entropy_T) else 0.0,
        "sampled_tokens": float(len(entropy_T)),
        "executed_tool_calls_per_prompt": calls.executed / prompts,
        "inherited_tool_calls_per_prompt": calls.inherited / prompts,
        "replayed_tool_calls_per_prompt": calls.replayed / prompts,
        "forks_per_prompt": origins["branch"] / prompts,
        "fork_depth": float(np.mean(depths)) if depths else 0.0,
        "backfills_per_prompt": origins["backfill"] / prompts,
        "equal_reward_groups": float(np.mean([len(g) == 0 or g.max() == g.min() for g in groups])) if groups else 0.0,
        "answered": statuses[Status.ANSWERED] / max(1, len(success)),
        "stalled": statuses[Status.STALLED] / max(1, len(success)),
        "failed_leaves": float(sum(statuses[status] for status in FAILED)),
        **{f"env/{name}": float(np.mean(values)) for name, values in measures(trees).items()},
    }


def summarise_costs(trees: Sequence[RolloutTree]) -> dict[str, float]:
    """Returns the tool calls that a batch made, and what the policy earns, whatever an algorithm forks.

    `unforked_reward` is the mean over prompts of what the roots earned on average, each followed past its forks: a root is
    drawn as if nothing else were. Below forks there are more paths where the algorithm chose to look, and more are back-filled
    where it found little to fork, so that neither counts. A prompt whose roots all failed through no fault of the model is
    left out; 0 if that is every prompt. AEPO plans most of its roots by what the first one showed, which may shift the mean a
    little.

    Args:
        trees: frozen.
    """
    calls = total_tool_calls(trees)
    earned = [float(np.mean(own)) for own in map(_unforked_rewards, trees) if own]
    return {
        "tool_calls": float(calls.executed + calls.replayed),
        "unforked_reward": float(np.mean(earned)) if earned else 0.0,
    }


def _unforked_rewards(tree: RolloutTree) -> list[float]:
    """Returns the rewards of the roots' own paths, without those that failed through no fault of the model."""
    reward_L, valid_L = rewards(tree)
    return [
        float(reward)
        for leaf, reward, is_valid in zip(tree.leaves(), reward_L, valid_L, strict=True)
        if is_valid and {tree.nodes[index].origin for index, _ in tree.path(leaf)} <= {"", "root"}
    ]


def measures(trees: Sequence[RolloutTree]) -> dict[str, list[float]]:
    """Returns what environments measured of trajectories, by name in alphabetical order.

    A measure has a value for each leaf whose environment gave one; those that failed through no fault of the model are left
    out.
    """
    ends = [tree.nodes[leaf] for tree in trees for leaf in tree.leaves()]
    given = [end.measures for end in ends if end.measures and end.status is not None and end.status.is_model]
    names = sorted({name for one in given for name in one})
    return {name: [one[name] for one in given if name in one] for name in names}


_PER_ENV = ("reward", "success", "answered", "entropy", "executed_tool_calls_per_prompt", "equal_reward_groups")


def by_env(trees: Sequence[RolloutTree]) -> dict[str, list[RolloutTree]]:
    """Returns the trees of each environment of a mixture, by id; nothing if they are not of a mixture."""
    found: dict[str, list[RolloutTree]] = {}
    for tree in trees:
        if "env" in tree.meta:
            found.setdefault(tree.meta["env"], []).append(tree)
    return dict(sorted(found.items()))


def summarise_envs(trees: Sequence[RolloutTree]) -> dict[str, float]:
    """Returns the main metrics of each environment of a mixture as `success/ID` and so on, with its prompts.

    An environment without a prompt in the batch has no metrics.
    """
    found: dict[str, float] = {}
    for env, own in by_env(trees).items():
        whole = summarise(own)
        found |= {f"{name}/{env}": whole[name] for name in _PER_ENV} | {f"prompts/{env}": float(len(own))}
    return found


def failed_by_status(trees: Sequence[RolloutTree]) -> dict[str, float]:
    """Returns how many leaves failed in each way, as flat metrics.

    >>> list(failed_by_status([]))[:2]
    ['failed_prompt_too_long', 'failed_tool_timeout']
    """
    statuses = Counter(tree.nodes[leaf].status for tree in trees for leaf in tree.leaves())
    return {f"failed_{status}": float(statuses[status]) for status in FAILED}


def fork_depths(trees: Sequence[RolloutTree]) -> list[int]:
    """Returns how many tool calls each fork inherited."""
    return [tree.depth(i) for tree in trees for i, node in enumerate(tree.nodes) if node.origin == "branch"]


_SUMS = ("trained_tokens", "skipped_rows", "skipped_updates")


def combined(results: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the metrics of several optimizer steps: counts added up, the largest ratio, all else averaged."""
    found: dict[str, float] = {}
    for name in dict.fromkeys(name for result in results for name in result):
        values = [result[name] for result in results if name in result]
        whole = sum(values) if name in _SUMS else max(values) if name == "mismatch_ratio_max" else sum(values) / len(values)
        found[name] = float(whole)
    return found
