"""Learning from examples: the cross-entropy of the tokens that a demonstrator wrote, and of no others.

The cold start of the embedded policy and `arpo sft` both take their optimizer steps here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..packing import PackedBatch, edges_of, sampled_rows
from ..tree import RolloutTree
from .configuration import LearnerConfig
from .optimization import set_rate
from .torch_learner import TorchLearner


@dataclass(frozen=True)
class Exercise:
    """One micro-batch: what goes into the model, and what it should say where.

    Args:
        inputs: of the model.
        where: row and column of the tokens [R, F] after which something is predicted, each [U].
        target_U: ids of what the demonstrator wrote there.
        weight_U: how many demonstrations hold that token, times what it counts in each.
        tokens: how many tokens go through the model, padding not counted.
    """

    inputs: Mapping[str, Any]
    where: tuple[torch.Tensor, torch.Tensor]
    target_U: torch.Tensor
    weight_U: torch.Tensor
    tokens: int = 0

    @classmethod
    def padded(cls, tokens_BT: torch.Tensor, scored_BT: torch.Tensor) -> "Exercise":
        """Returns sequences as they are, right-padded.

        Args:
            tokens_BT: [B, T] ids.
            scored_BT: [B, T], True for tokens to learn; nothing predicts position 0.
        """
        row_U, before_U = scored_BT[:, 1:].nonzero(as_tuple=True)
        target_U = tokens_BT[row_U, before_U + 1]
        inputs = {"input_ids": tokens_BT, "use_cache": False}
        return cls(inputs, (row_U, before_U), target_U, torch.ones(len(target_U), device=tokens_BT.device))

    @classmethod
    def packed(cls, batch: PackedBatch) -> "Exercise":
        """Returns the paths of trees; a token that several of them share is computed once, and counts as often as it occurs."""
        weight_BT = batch.paths.weight_BT
        edges = edges_of(batch, weight_BT > 0)
        blank_U = torch.zeros(len(edges.target_U), dtype=weight_BT.dtype, device=weight_BT.device)
        weight_U = blank_U.index_add_(0, edges.edge_M, weight_BT[edges.on_paths])
        inputs = {"input_ids": batch.ids_RF, "use_cache": False, **batch.tree}
        return cls(inputs, edges.where, edges.target_U, weight_U, batch.computed_tokens)


class SupervisedLearner(TorchLearner):
    """Maximises the likelihood of what demonstrators wrote.

    Args:
        model: as for `TorchLearner`.
        config: as for `TorchLearner`; what concerns rewards has no effect.
        device: where to train.
        betas: of AdamW.

    Raises:
        ConfigError: the model cannot be trained like this.
    """

    def __init__(
        self,
        model: Any,
        config: LearnerConfig = LearnerConfig(),
        *,
        device: str | torch.device = "cpu",
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        super().__init__(model, config, device=device)
        for group in self.optimizer.param_groups:
            group["betas"] = betas

    def learn(self, trees: Sequence[RolloutTree]) -> Mapping[str, float]:
        """Takes one AdamW step on the mean over all sampled tokens of all paths; see `teach`.

        Args:
            trees: frozen; the sampled tokens are those that a demonstrator wrote.
        """
        rows = sampled_rows(trees)
        wanted = [i for i, row in enumerate(rows) if row.weight[1:].any()]
        total = sum(float(row.weight[1:].sum()) for row in rows)
        batches = (Exercise.packed(batch) for batch, _ in self._packer.batches(trees, rows, wanted))
        found = self.teach(batches, total)
        flat = sum(len(rows[i].tokens) for i in wanted)
        return {**found, "sharing_ratio": flat / max(1.0, found["computed_tokens"])}

    def teach(self, exercises: Iterable[Exercise], total: float, rate: float | None = None) -> Mapping[str, float]:
        """Takes one AdamW step on the weighted mean of the cross-entropy.

        Args:
            exercises: micro-batches; how the tokens are spread over them changes nothing but rounding.
            total: weight of all tokens in all of them.
            rate: learning rate; by default the schedule's.

        Returns:
            The loss in nats per token, the share of tokens that the model thought likeliest, and how the step went.

        Raises:
            Diverged: too many gradients in a row were not finite; the weights are those of the last good step.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss, right, computed = 0.0, 0.0, 0
        for exercise in exercises:
            with self._precision():
                below, _ = self._scorer.below(exercise.where, **exercise.inputs)
                found = self._scorer.in_chunks(self._judged, below, exercise.target_U, exercise.weight_U)
            share = torch.stack([nats for nats, _ in found]).sum() / total
            share.backward()  # type: ignore[no-untyped-call]
            loss += float(share.detach())
            right += sum(float(hits) for _, hits in found)
            computed += exercise.tokens
        scheduled = self.config.learning_rate * self.config.schedule(self._batches)  # one step for each batch, always
        set_rate(self.optimizer, scheduled if rate is None else rate)
        moved = self._move()
        self._batches += 1
        return {"loss": loss, "accuracy": right / total, "computed_tokens": float(computed), "learned_tokens": total, **moved}

    def _judged(self, below: torch.Tensor, target_U: torch.Tensor, weight_U: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the weighted cross-entropy of some tokens, nats, and the weight of those that the model thought likeliest."""
        logits_UV = self._scorer.logits(below)
        nats_U = torch.nn.functional.cross_entropy(logits_UV, target_U, reduction="none")
        hits_U = logits_UV.detach().argmax(-1) == target_U
        return (nats_U * weight_U).sum(), (hits_U * weight_U).sum()

    def surprise(self, trees: Sequence[RolloutTree]) -> float:
        """Returns the mean over all sampled tokens of −log of their probability, nats: the loss, without learning from it."""
        weight = sum(float(row.weight[1:].sum()) for row in sampled_rows(trees))
        nats = sum(float(np.sum(path)) for tree in self.logprobs(trees) for path in tree)
        return -nats / weight
