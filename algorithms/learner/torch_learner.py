"""The learner: a model and its optimizer; scores paths, takes optimizer steps.

Micro-batches change nothing: each token's loss is multiplied by its weight and divided by the
denominator of the WHOLE optimizer batch before gradients are added up.
"""

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from arpo_envs import ConfigError

from .. import seeds
from ..advantages import Array, Credit, Scores
from ..losses import Loss, LossInputs
from ..losses.aggregation import Aggregation, path_scales
from ..metrics import combined
from ..models.attention import keep_soft_cap
from ..models.compiled import plain
from ..models.own import OwnModel
from ..packing import PackedBatch, Packer, Row, Scorer, rows_of, sampled_rows, score, without_faults
from ..tree import RolloutTree
from . import state
from .adapters import adapter_state, inject, merged_state, without_adapters
from .configuration import LearnerConfig
from .mismatch import Mismatch, importance_weights
from .model_changes import checkpoint_activations, set_attention, value_head
from .optimization import Diverged, set_rate
from .snapshot import Snapshot, on_cpu
from .step_size import require_step
from .weights import WeightSource

log = logging.getLogger(__name__)

T = TypeVar("T")


class TorchLearner:
    """Trains a `transformers` causal language model on trees.

    Args:
        model: trained in place, in its own precision, and not compiled; everything after its logits is computed in float32, or
            in float64 if the model is.
        config: see `LearnerConfig`.
        temperature: the sampler's; log-probabilities are computed at the same one.
        device: where to train.
        reference: whether the present model is needed later, for a KL penalty. A frozen copy is kept; with adapters no
            copy is needed.
        values: whether to train a value head, a linear map of the last hidden state, initially 0.
        seed: of the minibatches.

    Raises:
        ConfigError: the model cannot be trained like this, or the learning rate is too small for its precision.
    """

    def __init__(
        self,
        model: Any,
        config: LearnerConfig = LearnerConfig(),
        *,
        temperature: float = 1.0,
        device: str | torch.device = "cpu",
        reference: bool = False,
        values: bool = False,
        seed: int = 0,
    ) -> None:
        if temperature <= 0.0:
            raise ConfigError(f"Training needs a temperature above 0, got {temperature}.")
        self.config, self.temperature, self.device, self.seed = config, temperature, torch.device(device), seed
        config.require_device(self.device)
        config.schedule.require_end()
        self.model = self._on_device(plain(model)).eval()  # no dropout: log-probabilities must be the sampler's
        keep_soft_cap(self.model)
        if config.attention != "as-loaded":
            set_attention(self.model, config.attention)
        self._keeps_reference = reference
        self.reference = copy.deepcopy(self.model).requires_grad_(False) if reference and config.lora is None else None
        if config.lora is not None:
            inject(self.model, config.lora)
        if config.gradient_checkpointing:
            checkpoint_activations(self.model)
        self.value_head = value_head(self.model) if values else None
        self._scorer = self._made_to_run(Scorer(self.model, self.value_head))
        self.own = OwnModel(self.model)
        self._reference_scorer = None if self.reference is None else self._made_to_run(Scorer(self.reference))
        self._packer = Packer(
            self.model, config.micro_batch_tokens, packing=config.packing, scorer=self._scorer, agreed=self._agreed
        )
        self._trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._require_step()
        self._trained += list(self.value_head.parameters()) if self.value_head is not None else []
        self.optimizer = torch.optim.AdamW(
            self._trained, lr=config.learning_rate, weight_decay=config.weight_decay, eps=config.adam_epsilon
        )
        self._updates = self._batches = self._bad = 0

    @property
    def place(self) -> tuple[int, int]:
        """How many optimizer steps were taken and how many updates finished: it identifies the weights and what follows."""
        return self._updates, self._batches

    # --- before the update ------------------------------------------------------------------------------------

    def score(self, trees: Sequence[RolloutTree], needs: frozenset[str]) -> Scores:
        """Returns what the algorithm needs from reference and value head; see `trainer.Learner.score`.

        Raises:
            ConfigError: a reference or a value head is needed, but there is none.
        """
        if "reference" in needs and not self._keeps_reference:
            raise ConfigError("The algorithm needs a reference model; build the learner with reference=True.")
        if "values" in needs and self.value_head is None:
            raise ConfigError("The algorithm needs a value head; build the learner with values=True.")
        if not needs:
            return Scores()
        rows = sampled_rows(trees)
        reference = values = None
        if "reference" in needs:
            with self._as_reference() as scorer:
                reference = self._on_rows(trees, rows, "logp_BT", scorer)
        if "values" in needs:
            values = self._on_rows(trees, rows, "value_BT", self._scorer)
        return Scores(*(None if found is None else _per_tree(trees, found) for found in (reference, values)))

    def logprobs(self, trees: Sequence[RolloutTree]) -> tuple[tuple[Array, ...], ...]:
        """Returns for each leaf of each tree the log-probability of every sampled token on its path, [T], nats; 0 elsewhere."""
        return _per_tree(trees, self._on_rows(trees, sampled_rows(trees), "logp_BT", self._scorer))

    def why_not_packable(self, length: int) -> str | None:
        """Returns why trees with paths of up to `length` tokens are trained as flat rows; None if they are packed."""
        return self._packer.why_flat(length)

    @contextmanager
    def _as_reference(self) -> Iterator[Scorer]:
        if self._reference_scorer is not None:
            self._reference_scorer.at_once = self._scorer.at_once
            yield self._reference_scorer
        else:
            with without_adapters(self.model):
                yield self._scorer

    @torch.no_grad()
    def _on_rows(
        self, trees: Sequence[RolloutTree], rows: Sequence[Row], field: Literal["logp_BT", "value_BT"], scorer: Scorer
    ) -> list[Array]:
        """Returns one of a model's numbers for the tokens that count in every row, each [T]."""
        found: dict[int, Array] = {}
        values = field == "value_BT"
        for batch, numbers in self._micro_batches(trees, rows, [i for i, row in enumerate(rows) if row.weight[1:].any()]):
            with self._precision():
                scored = score(scorer, batch, batch.paths.weight_BT > 0, self.temperature, values=values)
            for line, i in zip(getattr(scored, field).double().cpu().numpy(), numbers, strict=True):
                found[i] = line[: len(rows[i].tokens)]
        everywhere = {i: line for share in self._gathered(found) for i, line in share.items()}
        return [everywhere[i] if i in everywhere else np.zeros(len(row.tokens)) for i, row in enumerate(rows)]

    # --- the update -------------------------------------------------------------------------------------------

    def update(
        self, trees: Sequence[RolloutTree], credit: Credit, scores: Scores, loss: Loss, aggregation: Aggregation
    ) -> Mapping[str, float]:
        """Takes epochs × minibatches AdamW steps; see `trainer.Learner.update`.

        Paths whose credit or scores are not finite are left out, and counted in `faulty_rows`.

        Raises:
            ConfigError: the loss is right for a single step only, see `LearnerConfig.require_loss`.
            Diverged: too many gradients in a row were not finite; the weights are those of the last good step.
        """
        self.config.require_loss(loss)
        rows, faulty = without_faults(rows_of(trees, credit, scores))
        if faulty:
            log.warning("Credit or scores of %d of %d paths are not finite; these paths are left out.", faulty, len(rows))
        parts = [part for epoch in range(self.config.epochs) for part in self._deal(len(trees), epoch)]
        if len(parts) > 1 and self.config.importance != "none":
            before = self._on_rows(trees, rows, "logp_BT", self._scorer)
            rows = [replace(row, old_logp=logp) for row, logp in zip(rows, before, strict=True)]
        found = []
        for number, part in enumerate(parts):
            set_rate(self.optimizer, self.config.rate(self._batches, number))
            found.append(self._step(trees, rows, part, loss, aggregation))
        self._batches += 1  # at the end: an update that fails before its first step does not count
        return combined(found) | {"faulty_rows": float(faulty)}

    def _deal(self, trees: int, epoch: int) -> list[list[int]]:
        """Returns the trees of each minibatch."""
        if self.config.minibatches == 1:
            return [list(range(trees))]
        order = seeds.generator(self.seed, "minibatches", self._batches, epoch).permutation(trees)
        return [sorted(part.tolist()) for part in np.array_split(order, self.config.minibatches) if len(part)]

    def _step(
        self, trees: Sequence[RolloutTree], rows: Sequence[Row], part: Sequence[int], loss: Loss, aggregation: Aggregation
    ) -> dict[str, float]:
        """Takes one AdamW step on some of the trees.

        Rows without weight have no gradient; rows without advantage have none either, unless something else in the loss
        does. They count in the denominator, but are not computed.
        """
        first = np.cumsum([0, *(len(tree.leaves()) for tree in trees)]).tolist()
        mine = [row for tree in part for row in range(first[tree], first[tree + 1])]
        scale = dict(zip(mine, path_scales([float(rows[i].weight[1:].sum()) for i in mine], aggregation), strict=True))
        always = self.config.entropy_bonus > 0.0
        useful = [i for i in mine if (rows[i].weight[1:] * (always or _teaches(rows[i]))).any()]
        weight = sum(float(rows[i].weight[1:].sum()) for i in useful)
        mismatch = Mismatch("token" if self.config.importance == "none" else self.config.importance)
        own: dict[str, float] = {}
        tokens = 0
        self.optimizer.zero_grad(set_to_none=True)
        for batch, numbers in self._micro_batches(trees, rows, useful):
            tokens += batch.computed_tokens
            scale_B = torch.tensor([scale[i] for i in numbers], dtype=batch.paths.weight_BT.dtype, device=self.device)
            for name, value in self._backward(batch, scale_B, weight, loss, mismatch).items():
                own[name] = own.get(name, 0.0) + value
        totals, computed, mismatch = _joined(self._gathered((own, tokens, mismatch)))
        return {
            **totals,
            **mismatch.metrics(),
            **(self._move() if useful else {"gradient_norm": 0.0}),
            "trained_tokens": float(sum((rows[i].weight > 0).sum() for i in mine)),
            "skipped_rows": float(len(mine) - len(useful)),
            "sharing_ratio": sum(len(rows[i].tokens) for i in useful) / max(1, computed),
        }

    def _backward(
        self, batch: PackedBatch, scale_B: torch.Tensor, weight: float, loss: Loss, mismatch: Mismatch
    ) -> dict[str, float]:
        """Adds one micro-batch's gradient; returns its share of the loss, and of means over tokens of this total weight."""
        paths, config = batch.paths, self.config
        counted_BT = paths.weight_BT > 0
        with self._precision():
            scored = score(
                self._scorer,
                batch,
                counted_BT,
                self.temperature,
                entropies=config.entropy_bonus > 0.0,
                values=paths.return_BT is not None,
            )
        # with one optimizer step per batch, the weights have not moved yet
        start_BT = scored.logp_BT.detach() if paths.old_logp_BT is None else paths.old_logp_BT
        mismatch.add(start_BT, paths.behaviour_logp_BT, counted_BT)
        old_logp_BT, advantage_BT = paths.behaviour_logp_BT, paths.advantage_BT
        if config.importance != "none":
            ratios = (start_BT, paths.behaviour_logp_BT, counted_BT)
            old_logp_BT = start_BT
            advantage_BT = advantage_BT * importance_weights(*ratios, config.importance, config.importance_cap)
        inputs = (scored.logp_BT, old_logp_BT, advantage_BT, paths.weight_BT, paths.reference_logp_BT)
        output = loss(LossInputs(*inputs, scored.value_BT, paths.old_value_BT, paths.return_BT))
        share_BT = paths.weight_BT * scale_B[:, None]
        total = (output.loss_BT * share_BT).sum()
        if scored.entropy_BT is not None:
            total = total - config.entropy_bonus * (scored.entropy_BT * share_BT).sum()
        total.backward()  # type: ignore[no-untyped-call]
        logged = {name: float((it_BT.detach() * paths.weight_BT).sum()) / weight for name, it_BT in output.metrics.items()}
        return {"loss": float(total.detach()), **logged}

    def _move(self) -> dict[str, float]:
        """Takes the step if the gradient is finite."""
        rate, norm = self.optimizer.param_groups[0]["lr"], self._clipped()
        if math.isfinite(norm):
            self.optimizer.step()
            self._updates, self._bad = self._updates + 1, 0
            return {"gradient_norm": norm, "learning_rate": rate, "skipped_updates": 0.0}
        self.optimizer.zero_grad(set_to_none=True)
        self._bad += 1
        if self._bad >= self.config.bad_steps:
            raise Diverged(
                f"{self._bad} gradients in a row were not finite. The weights are those of the last good step; a lower "
                "learning rate, a tighter gradient clip or full precision may help."
            )
        return {"gradient_norm": 0.0, "learning_rate": rate, "skipped_updates": 1.0}

    def _precision(self) -> AbstractContextManager[object]:
        if self.config.autocast == "none":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    # --- where the model lies on several ranks, these do something else ---------------------------------------

    def _on_device(self, model: Any) -> Any:
        """Returns a model where it is trained."""
        return model.to(self.device)

    def _made_to_run(self, scorer: Scorer) -> Scorer:
        """Returns a scorer whose parameters are the ones to train."""
        return scorer

    def _require_step(self) -> None:
        """Refuses a learning rate that is too small for the precision of the trained parameters."""
        require_step(self._trained, self.config.learning_rate)

    def _micro_batches(
        self, trees: Sequence[RolloutTree], rows: Sequence[Row], wanted: Sequence[int]
    ) -> Iterator[tuple[PackedBatch, list[int]]]:
        """Yields the micro-batches to compute here; see `Packer.batches`."""
        return self._packer.batches(trees, rows, wanted)

    def _gathered(self, found: T) -> list[T]:
        """Returns what every rank found, this one's own included."""
        return [found]

    def _agreed(self, reason: str | None) -> str | None:
        """Returns the first reason that any rank found."""
        return next((one for one in self._gathered(reason) if one is not None), None)

    def _clipped(self) -> float:
        """Clips the gradient, and returns its norm before that."""
        return float(torch.nn.utils.clip_grad_norm_(self._trained, self.config.gradient_clip))

    # --- what is kept -----------------------------------------------------------------------------------------

    def weights(self) -> WeightSource:
        """Returns the model's weights, adapters merged into them; see `trainer.Learner.weights`."""
        return merged_state(self.model)

    def save(self, folder: Path) -> None:
        """Writes all but the weights, which are saved as a model folder; adapters are included."""
        state.write(folder, self._kept() | state.moments(self._scorer, self.optimizer))

    def snapshot(self) -> Snapshot:
        """Returns a copy of all there is to save, in the memory of the CPU, to be written while this learner goes on."""
        return Snapshot(self.model, *self._copied(on_cpu))

    def _copied(self, copy: Callable[[torch.Tensor], torch.Tensor]) -> tuple[WeightSource, dict[str, torch.Tensor]]:
        """Returns copies of the weights and of everything else; the reference never changes, and is not copied."""
        rest = self._kept() | state.moments(self._scorer, self.optimizer)
        return self.weights().snapshot(copy), {
            name: it if name.startswith("reference ") else copy(it) for name, it in rest.items()
        }

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote, on any number of ranks, or an earlier version in a file beside it.

        Raises:
            ConfigError: it is the state of another kind of learner.
        """
        if (older := folder.with_suffix(".pt")).is_file():
            self._load_older(torch.load(older, map_location="cpu", weights_only=True))
            return
        kept, stored = self._kept(), state.describe(folder)
        moments: list[dict[str, torch.Tensor]] = []
        name_of: dict[Any, str] = {parameter: name for name, parameter in self._scorer.named_parameters()}
        for parameter in self._trained:
            own = {name: it for name, it in stored.items() if name.startswith(f"optimizer {name_of[parameter]} ")}
            moments.append({name: state.blank(it, parameter) for name, it in own.items()})
        state.read(folder, {**kept, **{name: it for fields in moments for name, it in fields.items()}})
        self._updates, self._batches, self._bad = kept["counts"].tolist()
        by_number = {i: {name.split()[-1]: it for name, it in fields.items()} for i, fields in enumerate(moments) if fields}
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": by_number})

    def _kept(self) -> dict[str, torch.Tensor]:
        """Returns what is kept besides the optimizer's state: counts, and the tensors themselves of everything else."""
        groups = {
            "reference": self.reference.state_dict() if self.reference is not None else {},
            "value_head": self.value_head.state_dict() if self.value_head is not None else {},
            "adapters": adapter_state(self.model),
        }
        named = {f"{group} {name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}
        return {"counts": torch.tensor([self._updates, self._batches, self._bad])} | named

    def _load_older(self, found: Mapping[str, Any]) -> None:
        """Restores what earlier versions stored in one file."""
        self.optimizer.load_state_dict(found["optimizer"])
        if self.reference is not None:
            self.reference.load_state_dict(found["reference"])
        if self.value_head is not None:
            self.value_head.load_state_dict(found["value_head"])
        self.model.load_state_dict(found["adapters"], strict=False)
        self._updates, self._batches, self._bad = found["counts"]


def _joined(shares: Sequence[tuple[dict[str, float], int, Mismatch]]) -> tuple[dict[str, float], int, Mismatch]:
    """Returns totals, computed tokens and mismatch of the whole batch."""
    totals: dict[str, float] = {}
    whole = Mismatch(shares[0][2].level)
    for own, _, mismatch in shares:
        for name, value in own.items():
            totals[name] = totals.get(name, 0.0) + value
        whole.join(mismatch)
    return totals, sum(tokens for _, tokens, _ in shares), whole


def _teaches(row: Row) -> Array | bool:
    """Returns where a row has a gradient: where its advantage is not 0, or everywhere if its loss has other terms."""
    return True if row.reference_logp is not None or row.returns is not None else row.advantage[1:]


def _per_tree(trees: Sequence[RolloutTree], found: Sequence[Array]) -> tuple[tuple[Array, ...], ...]:
    flat = iter(found)
    return tuple(tuple(next(flat) for _ in tree.leaves()) for tree in trees)
