"""Laws about learning: one step of a very small model."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from arpo_envs.testing import Finding, SkippedLaw

from ..tree import RolloutTree
from .laws import AlgorithmLaw as Law
from .playground import Playground

_MOST_PATHS = 48
"""More would make the check slow and show nothing more."""

_VOCABULARY = 128


def learns(ground: Playground) -> Iterator[Finding]:
    """Finite metrics, and weights that moved."""
    before, after, metrics = _step(ground, micro_batch_tokens=1 << 20)
    if strange := {name: value for name, value in metrics.items() if value != value or abs(value) == float("inf")}:
        yield Finding(Law.LEARNS, f"metrics are not finite: {strange}", "finite numbers", "Is the loss finite in float32?")
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    if not 0.0 < moved < float("inf"):
        hint = "Does any token have both a weight and an advantage?"
        yield Finding(Law.LEARNS, f"the weights moved by {moved:g}", "a step", hint)


def micro_batches(ground: Playground) -> Iterator[Finding]:
    """The same step, all at once and a few rows at a time."""
    before, whole, _ = _step(ground, micro_batch_tokens=1 << 20)
    _, parts, _ = _step(ground, micro_batch_tokens=512)
    largest = max(float((whole[name] - before[name]).abs().max()) for name in before)
    worst = max(float((whole[name] - parts[name]).abs().max()) for name in before)
    if worst > 1e-3 * largest + 1e-7:
        happened = f"in micro-batches the step differs by {worst:.3g}; its largest entry is {largest:.3g}"
        hint = "The loss looks at other rows, or at the size of the batch."
        yield Finding(Law.MICRO_BATCHES, happened, "the same step", hint)


def _step(ground: Playground, micro_batch_tokens: int) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, float]]:
    """Returns the weights before and after a step, and its metrics.

    Raises:
        SkippedLaw: torch or transformers are not installed.
    """
    try:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        from ..learner import LearnerConfig, TorchLearner
    except ImportError as error:
        raise SkippedLaw(f"{error.name} is not installed") from error
    algorithm, trees = ground.algorithm, [_small_ids(tree) for tree in ground.batches[0]]
    while len(trees) > 1 and sum(len(tree.leaves()) for tree in trees) > _MOST_PATHS:
        trees.pop()
    size: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=_VOCABULARY, max_position_embeddings=2048, **size))
    # with a large epsilon AdamW's step is the gradient, so differences show in their true size
    config = LearnerConfig(
        learning_rate=1.0, weight_decay=0.0, adam_epsilon=1.0, micro_batch_tokens=micro_batch_tokens, packing="flat"
    )
    needs = algorithm.needs
    learner = TorchLearner(model, config, reference="reference" in needs, values="values" in needs)
    before = {name: value.detach().clone() for name, value in learner.weights().items()}
    scores = learner.score(trees, needs)
    metrics = learner.update(trees, algorithm.credit(trees, scores), scores, algorithm.loss, algorithm.aggregation)
    return before, learner.weights(), metrics


def _small_ids(tree: RolloutTree) -> RolloutTree:
    """Returns a tree whose tokens the small model knows."""
    nodes = [replace(node, tokens=tuple(token % _VOCABULARY for token in node.tokens)) for node in tree.nodes]
    return replace(tree, nodes=nodes)
