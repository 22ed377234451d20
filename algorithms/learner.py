"""The learner: a model and its optimizer; scores paths, takes one optimizer step per batch.

Micro-batches change nothing: each token's loss is multiplied by its weight and divided by the
denominator of the WHOLE optimizer batch before gradients are added up.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from arpo_envs import ConfigError

from .advantages import Credit, Scores, sampled_weights
from .algorithm import Aggregation
from .flat import FlatBatch, Row, batches, pad, rows_of
from .logits import Logits
from .losses import Loss, LossInputs
from .mismatch import Mismatch, TruncatedImportanceSampling
from .tree import RolloutTree


class Learner(Protocol):
    """What the trainer needs of a learner."""

    def score(self, trees: Sequence[RolloutTree], needs: frozenset[str]) -> Scores:
        """Returns what the estimators and the loss need beside behaviour log-probabilities."""
        ...

    def update(
        self, trees: Sequence[RolloutTree], credit: Credit, scores: Scores, loss: Loss, aggregation: Aggregation
    ) -> Mapping[str, float]:
        """Takes one optimizer step and returns metrics."""
        ...

    def weights(self) -> Mapping[str, Any]:
        """Returns the weights for the policy."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns everything needed to go on exactly."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` returned."""
        ...


@dataclass(frozen=True)
class LearnerConfig:
    """How to optimise.

    Args:
        learning_rate: of AdamW, per step.
        weight_decay: of AdamW.
        epsilon: of AdamW; a large one (1e-2) keeps small, noisy gradients from being blown up to full steps.
        gradient_clip: largest global norm of the gradient.
        token_budget: padded tokens per micro-batch; memory only, no effect on the result.
        correction: of the difference between the sampler's and the learner's probabilities. With None the loss's ratio
            is to the sampler itself, so that its clip takes care of both.
    """

    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    epsilon: float = 1e-8
    gradient_clip: float = 1.0
    token_budget: int = 16384
    correction: TruncatedImportanceSampling | None = TruncatedImportanceSampling()


class TorchLearner:
    """Trains a `transformers` causal language model on flat rows.

    Args:
        model: trained in place, in its own precision.
        config: see `LearnerConfig`.
        temperature: the sampler's; log-probabilities are computed at the same one.
        device: where to train.
        reference: whether to keep a frozen copy of the model as it is now, for a KL penalty.
    """

    def __init__(
        self,
        model: Any,
        config: LearnerConfig = LearnerConfig(),
        *,
        temperature: float = 1.0,
        device: str | torch.device = "cpu",
        reference: bool = False,
    ) -> None:
        if temperature <= 0.0:
            raise ConfigError(f"Training needs a temperature above 0, got {temperature}.")
        self.config, self.temperature, self.device = config, temperature, torch.device(device)
        self.model = model.to(self.device).eval()  # no dropout: log-probabilities must be the sampler's
        self._logits = Logits(self.model)
        self.reference = copy.deepcopy(model).eval().requires_grad_(False) if reference else None
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, eps=config.epsilon
        )

    def score(self, trees: Sequence[RolloutTree], needs: frozenset[str]) -> Scores:
        """Returns reference log-probabilities if they are needed; see `Learner.score`.

        Raises:
            ConfigError: a reference is needed, but none was kept.
        """
        if "reference" not in needs:
            return Scores()
        if self.reference is None:
            raise ConfigError("The algorithm needs a reference model; build the learner with reference=True.")
        reference = Logits(self.reference)
        blank = tuple(tuple(np.zeros(len(tree.tokens(leaf))) for leaf in tree.leaves()) for tree in trees)
        rows = rows_of(trees, Credit(blank, tuple(sampled_weights(tree) for tree in trees)))
        logps: list[Any] = [np.zeros(0)] * len(rows)  # a path whose episode never began has no tokens
        with torch.no_grad():
            written = [i for i, row in enumerate(rows) if len(row.tokens)]
            for index in batches([rows[i] for i in written], self.config.token_budget):
                batch = pad([rows[written[i]] for i in index], self.device)
                logp_BT = logprobs(reference, batch.ids_BT, batch.weight_BT > 0, self.temperature).double().cpu().numpy()
                for line, i in zip(logp_BT, index, strict=True):
                    logps[written[i]] = line[: len(rows[written[i]].tokens)]
        flat = iter(logps)
        return Scores(reference=tuple(tuple(next(flat) for _ in tree.leaves()) for tree in trees))

    def update(
        self, trees: Sequence[RolloutTree], credit: Credit, scores: Scores, loss: Loss, aggregation: Aggregation
    ) -> Mapping[str, float]:
        """Takes one AdamW step; see `Learner.update`.

        Rows without weight have no gradient; rows without advantage and without a reference have none
        either. They count in the denominator, but are not computed.
        """
        rows = rows_of(trees, credit, scores)
        scale = _denominators(rows, aggregation)
        penalised = scores.reference is not None
        useful = [i for i, row in enumerate(rows) if (row.weight[1:] * (penalised or row.advantage[1:])).any()]
        totals: dict[str, float] = {}
        mismatch = Mismatch(self.config.correction.level if self.config.correction is not None else "token")
        self.optimizer.zero_grad(set_to_none=True)
        chosen = [rows[i] for i in useful]
        for index in batches(chosen, self.config.token_budget):
            batch = pad([chosen[i] for i in index], self.device)
            scale_B = torch.tensor([scale[useful[i]] for i in index], device=self.device)
            for name, value in self._backward(batch, scale_B, loss, mismatch).items():
                totals[name] = totals.get(name, 0.0) + value
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)) if useful else 0.0
        if useful:
            self.optimizer.step()
        counted = float(sum((row.weight > 0).sum() for row in rows))
        totals |= mismatch.metrics()
        return {**totals, "gradient_norm": norm, "trained_tokens": counted, "skipped_rows": float(len(rows) - len(useful))}

    def _backward(self, batch: FlatBatch, scale_B: torch.Tensor, loss: Loss, mismatch: Mismatch) -> dict[str, float]:
        """Adds one micro-batch's gradient; returns its share of the logged means."""
        counted_BT = batch.weight_BT > 0
        logp_BT = logprobs(self._logits, batch.ids_BT, counted_BT, self.temperature)
        mismatch.add(logp_BT, batch.behaviour_logp_BT, counted_BT)
        old_logp_BT, advantage_BT = batch.behaviour_logp_BT, batch.advantage_BT
        if self.config.correction is not None:
            old_logp_BT = logp_BT.detach()  # one optimizer step per batch: the weights have not moved yet
            advantage_BT = advantage_BT * self.config.correction(old_logp_BT, batch.behaviour_logp_BT, counted_BT)
        inputs = LossInputs(logp_BT, old_logp_BT, advantage_BT, batch.weight_BT, batch.reference_logp_BT)
        output = loss(inputs)
        share_BT = batch.weight_BT * scale_B[:, None]
        total = (output.loss_BT * share_BT).sum()
        total.backward()  # type: ignore[no-untyped-call]
        logged = {name: float((value_BT.detach() * share_BT).sum()) for name, value_BT in output.metrics.items()}
        return {"loss": float(total.detach()), **logged}

    def weights(self) -> Mapping[str, Any]:
        """Returns the model's state dict; see `Learner.weights`."""
        weights: Mapping[str, Any] = self.model.state_dict()
        return weights

    def state_dict(self) -> dict[str, Any]:
        """Returns optimizer and reference; the weights themselves are saved as a model folder."""
        reference = self.reference.state_dict() if self.reference is not None else None
        return {"optimizer": self.optimizer.state_dict(), "reference": reference}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.reference is not None:
            self.reference.load_state_dict(state["reference"])


def logprobs(logits: Logits, ids_BT: torch.Tensor, scored_BT: torch.Tensor, temperature: float) -> torch.Tensor:
    """Returns the log-probability of each scored token given those before it, nats; 0 elsewhere.

    Args:
        logits: of the model.
        ids_BT: [B, T] ids, right-padded; causal attention keeps padding out of what precedes it.
        scored_BT: [B, T], True where it is wanted; never at position 0, which nothing predicts.
        temperature: of the softmax.
    """
    row_N, column_N = scored_BT.nonzero(as_tuple=True)
    logits_NV = logits((row_N, column_N - 1), input_ids=ids_BT, use_cache=False) / temperature
    logp_N = logits_NV.gather(1, ids_BT[row_N, column_N][:, None])[:, 0] - logits_NV.logsumexp(-1)
    blank_BT = torch.zeros(ids_BT.shape, dtype=logp_N.dtype, device=ids_BT.device)
    return blank_BT.index_put((row_N, column_N), logp_N)


def _denominators(rows: Sequence[Row], aggregation: Aggregation) -> list[float]:
    """Returns for each row what its weighted token losses are multiplied by, over the whole batch."""
    if aggregation == "token":
        total = sum(float(row.weight[1:].sum()) for row in rows)
        return [1.0 / total if total > 0 else 0.0] * len(rows)
    sums = [float(row.weight[1:].sum()) for row in rows]
    count = sum(total > 0 for total in sums)
    return [1.0 / (count * total) if total > 0 else 0.0 for total in sums]
