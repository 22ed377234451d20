"""Makes the golden trees and updates anew: `make golden`. Whoever does says in the commit what has changed, and why.

The trees are of four recipes that grow them in four ways: a scripted player, a counting tool, deterministic mode. The
updates are one step of every recipe, in float64, on trees that its own strategy grew. Their log-probabilities are near
those of the model, so that some ratios are clipped.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model_toys import tiny_model
from rollout_toys import CountEnv, CountTool, Plan, grow, results
from small_recipes import SMALL, small

from algorithms.algorithm import Algorithm
from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.tree import COLUMNS, Node, RolloutTree

FOLDER = Path(__file__).parents[1] / "golden"
UPDATES = FOLDER / "updates.json"
GROWN = ("arpo", "grpo", "tree_grpo", "tree_rl")
VOCABULARY = 128
"""The player writes nothing but ASCII, a character a token."""


def player(before: str, seed: int) -> str:
    """Thinks, calls up to three times, and answers; how often, and what, depends on the seed."""
    if results(before) < 1 + seed % 3:
        return f"<think>{'hm ' * (seed % 4)}</think><count>{seed % 1000:03}</count>"
    return f"<answer>{seed % 5 / 4}</answer>"


def uncertainty(before: str, seed: int) -> list[float]:
    """Returns entropies that rise after some results and fall after others, in quarters of a nat."""
    return [0.25 * ((seed // (i + 1) + results(before)) % 9) for i in range(24)]


def trees_of(algorithm: Algorithm, prompts: int = 2) -> list[RolloutTree]:
    """Returns what an algorithm grows."""
    plan = Plan(algorithm.branching, algorithm.rollouts)
    tool = CountTool()
    return grow(tool, plan, ScriptedPolicy(player, uncertainty), prompts=prompts, seed=7, env=lambda: CountEnv(tool))


def readable(tree: RolloutTree) -> str:
    """Returns a tree as one line of JSON in which a person can read the numbers, as files of trees once were."""
    blank = {field.name: field.default for field in fields(Node)}
    nodes = [
        {name: list(value) if name in COLUMNS else value for name in blank if (value := getattr(node, name)) != blank[name]}
        for node in tree.nodes
    ]
    record = {"task": tree.task, "meta": tree.meta, "frozen": tree.frozen, "nodes": nodes}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


@cache
def learned_from(algorithm: Algorithm) -> list[RolloutTree]:
    """Returns what an algorithm grows, as if somebody had drawn it who was about as uncertain as `model`."""
    rng, trees = np.random.default_rng(3), trees_of(algorithm)
    for tree in trees:
        tree.nodes[:] = [
            replace(node, logprobs=tuple(np.where(node.sampled, rng.normal(-math.log(VOCABULARY), 0.3, len(node.tokens)), 0.0)))
            for node in tree.nodes
        ]
    return trees


def model() -> Any:
    """Returns a model whose weights are the same on every processor, which torch's own draws are not."""
    made, rng = tiny_model(vocabulary=VOCABULARY, dtype=torch.float64, num_hidden_layers=1), np.random.default_rng(5)
    with torch.no_grad():
        for _, weight in sorted(made.named_parameters()):
            weight.copy_(torch.from_numpy(0.3 * rng.standard_normal(weight.shape)))
    return made


def update(algorithm: Algorithm, some: Any) -> Mapping[str, torch.Tensor]:
    """Returns what one update of a model logs, and the norm of each parameter's gradient."""
    needs = {need: need in algorithm.needs for need in ("reference", "values")}
    learner = TorchLearner(some, LearnerConfig(gradient_clip=1e9, importance="none"), **needs)
    trees = learned_from(algorithm)
    scores = learner.score(trees, algorithm.needs)
    logged = learner.update(trees, algorithm.credit(trees, scores), scores, algorithm.loss, algorithm.aggregation)
    norms = {f"gradient of {name}": weight.grad.norm() for name, weight in some.named_parameters() if weight.grad is not None}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in logged.items()} | norms


def main() -> None:
    """Writes them."""
    for name in GROWN:
        lines = [readable(tree) + "\n" for tree in trees_of(small(name))]
        (FOLDER / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    found = {case: {name: float(value) for name, value in update(small(case), model()).items()} for case in SMALL}
    UPDATES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
