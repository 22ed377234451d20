"""Forward on the tree, loss on the leaves: packed rows through the model, log-probabilities out per path.

Log-probabilities are scored by edge: token t is predicted at the place of its predecessor on the path, wherever that
is in the row, so a branching point predicts several tokens and no token is repeated.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from ..models.logits import Finish, finish_of, precision
from .batch import PackedBatch

AT_ONCE = 2**26
"""Logits held at once; 256 MB in float32, several times that with everything computed from them."""

Place = tuple[torch.Tensor, torch.Tensor]


class Scorer(torch.nn.Module):
    """From token ids to log-probabilities: what a learner runs, in one module that can be sharded as a whole.

    Logits of all tokens are never held at once: a few rows go through the head, and again in the backward pass. That takes
    extra time where there are many tokens of a large vocabulary, and changes nothing else.

    Args:
        model: a `transformers` causal language model.
        value_head: from hidden states [U, H] to [U, 1]; None if there is none.
        at_once: logits held at once.
    """

    def __init__(self, model: Any, value_head: torch.nn.Module | None = None, at_once: int = AT_ONCE) -> None:
        super().__init__()
        self.model, self.value_head, self.at_once = model, value_head, at_once

    @cached_property
    def _finish(self) -> Finish | None:
        """Found out at the first use: a sharded model has its weights only while it runs."""
        return finish_of(self.model)

    def forward(
        self, where: Place, target_U: torch.Tensor, temperature: float, *, entropies: bool, values: bool, **inputs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Returns log-probabilities [U] and, on request, entropies [U] and values [U], in nats and units of reward.

        Args:
            where: row and column of the tokens [R, F] after which something is predicted, each [U].
            target_U: ids of what came next.
            temperature: of the softmax.
            entropies: whether to compute them.
            values: whether to compute them.
            inputs: of the model.
        """
        below, hidden_UH = self.below(where, values=values, **inputs)
        found = self.in_chunks(lambda some, target: self._predicted(some, target, temperature, entropies), below, target_U)
        logp_U, entropy_U = torch.cat([logp for logp, _ in found]), torch.cat([entropy for _, entropy in found])
        value_U = None
        if values:
            assert self.value_head is not None and hidden_UH is not None  # noqa: PT018
            value_U = self.value_head(hidden_UH.to(precision(hidden_UH.dtype)))[:, 0].to(logp_U.dtype)
        return logp_U, entropy_U if entropies else None, value_U

    def below(self, where: Place, *, values: bool = False, **inputs: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns what `logits` turns into logits at the places where something is predicted, [U, …], and hidden states [U, H].

        Args:
            where: row and column of the tokens [R, F] after which something is predicted, each [U].
            values: whether hidden states are needed where `logits` needs something else.
            inputs: of the model.
        """
        if self._finish is not None:
            hidden_UH = self.model.base_model(**inputs).last_hidden_state[where]
            return hidden_UH, hidden_UH
        output = self.model(**inputs, output_hidden_states=values)
        return output.logits[where], output.hidden_states[-1][where] if values else None

    def logits(self, below: torch.Tensor) -> torch.Tensor:
        """Returns logits [U, V], at least in float32, from what `below` returned."""
        if self._finish is not None:
            return self._finish(self.model.get_output_embeddings()(below))
        return below.to(precision(below.dtype))

    def in_chunks(self, compute: Callable[..., Any], *arrays: torch.Tensor) -> list[Any]:
        """Returns what is computed of some rows at a time, so that few logits are held at once; again in the backward pass.

        Args:
            compute: from some rows of each array to tensors.
            arrays: each [U, …].
        """
        rows = max(1, self.at_once // self.model.config.get_text_config().vocab_size)
        chunks = list(zip(*(torch.split(array, rows) for array in arrays), strict=True))
        again = len(chunks) > 1 and torch.is_grad_enabled()
        return [checkpoint(compute, *chunk, use_reentrant=False) if again else compute(*chunk) for chunk in chunks]

    def _predicted(
        self, below: torch.Tensor, target_U: torch.Tensor, temperature: float, entropies: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns log-probabilities and entropies, each [U] (no entropies unless requested), of some of the tokens."""
        logits_UV = self.logits(below) / temperature
        total_U = logits_UV.logsumexp(-1)
        logp_U = logits_UV.gather(1, target_U[:, None])[:, 0] - total_U
        return logp_U, total_U - expected(logits_UV) if entropies else total_U[:0]


def expected(logits_UV: torch.Tensor) -> torch.Tensor:
    """Returns the mean logit under the softmax, [U]; tokens of probability 0 are left out, even if their logit is −∞."""
    p_UV = logits_UV.softmax(-1)
    return (p_UV * logits_UV.masked_fill(p_UV == 0.0, 0.0)).sum(-1)


class Scored(NamedTuple):
    """The model's scores of the tokens of paths; each [B, T], 0 where none was requested.

    Args:
        logp_BT: log-probability of the token given those before it on its path, nats.
        entropy_BT: of the distribution it was drawn from, nats; None if not requested.
        value_BT: the return that the value head expects before the token; None if not requested.
    """

    logp_BT: torch.Tensor
    entropy_BT: torch.Tensor | None
    value_BT: torch.Tensor | None


class Edges(NamedTuple):
    """What the model has to predict in a micro-batch: a token that several paths share is predicted once.

    Args:
        where: row and column of the tokens after which something is predicted, each [U].
        target_U: ids of what came next.
        on_paths: path and position of every token to score, each [M].
        edge_M: which of the predictions belongs to each of these.
    """

    where: Place
    target_U: torch.Tensor
    on_paths: Place
    edge_M: torch.Tensor


def edges_of(batch: PackedBatch, scored_BT: torch.Tensor) -> Edges:
    """Returns what has to be predicted.

    Args:
        batch: from `lay_out`.
        scored_BT: [B, T], True for tokens to score; never at position 0, which nothing predicts.
    """
    row_M, column_M = scored_BT.nonzero(as_tuple=True)
    place_U, edge_M = batch.index_BT[row_M, column_M].unique(return_inverse=True)  # type: ignore[no-untyped-call]
    previous_U = torch.empty_like(place_U).scatter_(0, edge_M, batch.index_BT[row_M, column_M - 1])
    width = batch.ids_RF.shape[1]
    where = (previous_U // width, previous_U % width)
    return Edges(where, batch.ids_RF.flatten()[place_U], (row_M, column_M), edge_M)


def score(
    scorer: torch.nn.Module,
    batch: PackedBatch,
    scored_BT: torch.Tensor,
    temperature: float,
    *,
    entropies: bool = False,
    values: bool = False,
) -> Scored:
    """Runs the model once over the rows and returns its scores of the tokens asked for.

    Args:
        scorer: a `Scorer`, or a wrapper of one.
        batch: from `lay_out`.
        scored_BT: [B, T], True for tokens to score; never at position 0, which nothing predicts.
        temperature: of the softmax.
        entropies: whether to compute them.
        values: whether to compute those of the value head.
    """
    edges = edges_of(batch, scored_BT)
    inputs = {"input_ids": batch.ids_RF, "use_cache": False, **batch.tree}
    found = scorer(edges.where, edges.target_U, temperature, entropies=entropies, values=values, **inputs)

    def on_paths(value_U: torch.Tensor | None) -> torch.Tensor | None:
        if value_U is None:
            return None
        blank_BT = torch.zeros(scored_BT.shape, dtype=value_U.dtype, device=scored_BT.device)
        return blank_BT.index_put(edges.on_paths, value_U[edges.edge_M])

    return Scored(*map(on_paths, found))  # type: ignore[arg-type]
