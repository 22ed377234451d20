"""From a batch of trees to micro-batches: which paths share a row, and which rows go together."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from ..tree import RolloutTree
from .batch import PackedBatch, lay_out, without_paths
from .dealing import deal
from .flat import Row
from .forward import Scorer
from .layout import Cost, PackedRow, batches, plan
from .packable import why_not_packable

log = logging.getLogger(__name__)


class Packer:
    """Makes micro-batches for one model.

    Before the first row that holds several paths, and before any row longer than those checked so far, the model is checked
    (`why_not_packable`). A model that fails is trained on flat rows from then on, with a warning.

    Args:
        model: the one the batches are for.
        token_budget: padded tokens of a micro-batch.
        packing: "auto" or "flat".
        cost: of a row; by default computed from the model's size.
        scorer: what runs the model while it is checked; by default a new one.
        agreed: from the reason for flat rows that was found here, or None, to the one that counts: ranks must not differ.
    """

    def __init__(
        self,
        model: Any,
        token_budget: int,
        *,
        packing: Literal["auto", "flat"] = "auto",
        cost: Cost | None = None,
        scorer: Scorer | None = None,
        agreed: Callable[[str | None], str | None] = lambda reason: reason,
    ) -> None:
        self.model, self.token_budget, self.packing, self.scorer, self.agreed = model, token_budget, packing, scorer, agreed
        self.cost = cost or _cost(model)
        self._checked = 0

    def batches(
        self, trees: Sequence[RolloutTree], rows: Sequence[Row], wanted: Sequence[int]
    ) -> Iterator[tuple[PackedBatch, list[int]]]:
        """Yields micro-batches that cover the wanted paths, each with the indices of its paths.

        Args:
            trees: frozen.
            rows: all their paths, from `rows_of`.
            wanted: indices of rows.
        """
        for chosen in self._together(self._plan(trees, wanted)):
            yield lay_out(chosen, rows, self.model, self.model.device), [leaf for row in chosen for leaf in row.leaves]

    def share(
        self, trees: Sequence[RolloutTree], rows: Sequence[Row], wanted: Sequence[int], rank: int, ranks: int
    ) -> Iterator[tuple[PackedBatch, list[int]]]:
        """Yields one rank's share of `batches`: whole trees, dealt so that all ranks have about as much to compute.

        Every rank yields as many micro-batches as the one that has the most: ranks that share a model run it together.
        What it lacks is made up for by micro-batches without any path, which have no gradient.

        Args:
            trees: frozen; the same on all ranks, like all other arguments but `rank`.
            rows: all their paths, from `rows_of`.
            wanted: indices of rows.
            rank: whose share, counted from 0.
            ranks: how many there are.
        """
        shares = [list(self._together(packed)) for packed in self.dealt(trees, wanted, ranks)]
        for chosen in shares[rank]:
            yield lay_out(chosen, rows, self.model, self.model.device), [leaf for row in chosen for leaf in row.leaves]
        for _ in range(max(map(len, shares)) - len(shares[rank])):
            yield without_paths(rows, wanted[0], self.model, self.model.device), []

    def dealt(self, trees: Sequence[RolloutTree], wanted: Sequence[int], ranks: int) -> list[list[PackedRow]]:
        """Returns the packed rows of every rank's trees; see `deal`."""
        packed = self._plan(trees, wanted)
        tree_of = np.repeat(range(len(trees)), [len(tree.leaves()) for tree in trees])
        costs = [0.0] * len(trees)
        for row in packed:
            costs[tree_of[row.leaves[0]]] += self.cost(len(row), len(row.leaves))
        owner = {tree: rank for rank, mine in enumerate(deal(costs, ranks)) for tree in mine}
        return [[row for row in packed if owner[int(tree_of[row.leaves[0]])] == rank] for rank in range(ranks)]

    def _together(self, packed: Sequence[PackedRow]) -> Iterator[list[PackedRow]]:
        """Yields the rows of each micro-batch: of similar length, and all with one path or all with several."""
        for alone in (True, False):
            kind = [row for row in packed if (len(row.leaves) == 1) is alone]
            for index in batches([len(row) for row in kind], self.token_budget):
                yield [kind[i] for i in index]

    def why_flat(self, length: int) -> str | None:
        """Returns why trees with paths of `length` tokens are trained as flat rows; None if they are packed where it pays."""
        if self.packing == "flat":
            return "the configuration says so"
        longest = min(length, self.token_budget)
        if longest > self._checked:
            self._checked = longest
            if reason := self.agreed(why_not_packable(self.model, longest, self.scorer)):
                log.warning("Trees are trained as flat rows, which is slower but the same: %s.", reason)
                self.packing = "flat"
                return reason
        return None

    def _plan(self, trees: Sequence[RolloutTree], wanted: Sequence[int]) -> list[PackedRow]:
        """Returns the rows; asks the model first if any of them holds several paths."""
        if self.packing == "auto":
            packed = plan(trees, wanted, self.cost, self.token_budget)
            longest = max((int(row.position.max()) + 1 for row in packed if len(row.leaves) > 1), default=0)
            # longer than needed, so that growing paths are not checked again and again
            if longest <= self._checked or self.why_flat(longest + longest // 4) is None:
                return packed
        return plan(trees, wanted, self.cost, 0)


def _cost(model: Any) -> Cost:
    """Returns the cost of a row by a model's size; for FlexAttention a tree's mask costs no more than a plain row's."""
    config = model.config.get_text_config()
    flex = getattr(model.config, "_attn_implementation", None) == "flex_attention"
    return Cost.of(config, _body(model), **({"masked": 1.0} if flex else {}))


def _body(model: Any) -> int:
    """Returns the number of parameters that every token goes through, embedding and head left out."""
    ends = {id(layer.weight) for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer is not None}
    return sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in ends)
