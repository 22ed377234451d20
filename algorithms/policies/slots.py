"""Keys and values of past tokens, in a pool that forks and continued paths share by prefix.

`Prefixes` does the bookkeeping; this is the `transformers` cache that reads and writes the pool. Rows that decode
together are gathered from the pool once, into a table that grows in place until a row joins or leaves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache

from arpo_envs import ConfigError

from ..models.attention import Reach, added, as_taken, reaches
from .prefixes import Integers, Prefixes

ELSEWHERE = "Draw with vLLM (--engine vllm), or train another model."
"""What to do about a model that the local engine cannot run."""

_GROWTH = 24
"""Tokens a table can grow by before it is gathered again."""


@dataclass
class _Table:
    """The keys and values that rows which decode together read.

    Args:
        placed_B: which placement each row is; a slot that was placed again is another row.
        known_B: tokens of each row in the table.
        width: tokens each row may have.
        layers: per layer the keys and the values, [B * width, E].
    """

    placed_B: Integers
    known_B: Integers
    width: int
    layers: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)


@dataclass
class _Rows:
    """What the current forward pass computes and reads.

    Args:
        new_F: places of the tokens that are computed.
        computed_F: which of the B * Q states they are; None if all are.
        read_M: places of all tokens of all rows, B * K in all; place 0 where a row is shorter.
        width: K.
        table: what is read instead of the pool, if only one token per row is computed.
        cells_B: where in the table the new tokens go; None while the table is empty.
    """

    new_F: torch.Tensor
    computed_F: torch.Tensor | None
    read_M: torch.Tensor
    width: int
    table: _Table | None = None
    cells_B: torch.Tensor | None = None


class SlotCache(Cache):
    """The `transformers` cache interface over one pool of tokens.

    Args:
        slots: S, sequences remembered at the same time.
        length: longest sequence, in tokens.
        budget: tokens remembered at the same time; by default what all slots could need.
        reach_of: how far each kind of layer sees, from `attention.reaches`; by default everything before it.
    """

    def __init__(self, slots: int, length: int, budget: int | None = None, reach_of: Mapping[str, Reach] | None = None) -> None:
        super().__init__(layers=[])
        self._reach_of = {"": Reach()} if reach_of is None else reach_of
        self.books = Prefixes(slots, length, slots * length if budget is None else budget)
        self.place, self.append = self.books.place, self.books.append
        self.free = self.books.free
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._rows: _Rows | None = None
        self._table: _Table | None = None

    def forget(self) -> None:
        """Forgets everything: the weights changed."""
        self._table = None
        self.books.forget()

    def pending(self, slot: int) -> int:
        """Returns how many tokens of a sequence the next forward pass computes."""
        return int(self.books.known_S[slot] - self.books.ready_S[slot])

    def begin(self, slots: Sequence[int], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """Returns the model inputs for what each slot knows but has not computed: right-padded [B, Q]."""
        books, index = self.books, np.asarray(slots)
        starts_B, stops_B = books.ready_S[index], books.known_S[index]
        counts_B, width = stops_B - starts_B, int(stops_B.max())
        offset_Q = np.arange(int(counts_B.max()))
        used_BQ = offset_Q[None] < counts_B[:, None]
        position_BQ = np.minimum(starts_B[:, None] + offset_Q[None], stops_B[:, None] - 1)
        new_BQ = books.places_ST[index[:, None], position_BQ]
        table, cells_B = self._tabled(index) if len(offset_Q) == 1 else (None, None)
        read = width if table is None else table.width
        self._rows = _Rows(
            torch.from_numpy(new_BQ[used_BQ]).to(device),
            None if used_BQ.all() else torch.from_numpy(np.flatnonzero(used_BQ)).to(device),
            torch.from_numpy(books.places_ST[index, :read].reshape(-1)).to(device),
            width,
            table,
            None if cells_B is None else torch.from_numpy(cells_B).to(device),
        )
        books.ready_S[index] = stops_B
        return self._inputs(books.tokens_ST[index[:, None], position_BQ], position_BQ, counts_B - 1, width, device, dtype)

    def begin_block(self, slot: int, size: int, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """Returns the model inputs for the block of a sequence that holds its first pending token: [1, Q].

        Blocks begin at multiples of `size` and have that size, whatever of them is known: the shapes of all products, and
        so their rounding, depend on positions alone. What was computed of the block before is computed again, to the same
        bits.
        """
        books = self.books
        start = int(books.ready_S[slot]) // size * size
        end = min(start + size, books.places_ST.shape[1])
        stop = min(int(books.known_S[slot]), end)
        tokens_BQ = np.zeros((1, end - start), dtype=np.int64)
        tokens_BQ[0, : stop - start] = books.tokens_ST[slot, start:stop]
        self._rows = _Rows(
            torch.from_numpy(books.places_ST[slot, start:stop]).to(device),
            None if stop == end else torch.arange(stop - start, device=device),
            torch.from_numpy(books.places_ST[slot, :end]).to(device),
            end,
        )
        books.ready_S[slot] = stop
        return self._inputs(tokens_BQ, np.arange(start, end)[None], np.array([stop - start - 1]), end, device, dtype)

    def _inputs(
        self, tokens_BQ: Integers, position_BQ: Integers, last_B: Integers, width: int, device: torch.device, dtype: torch.dtype
    ) -> dict[str, Any]:
        """Returns the model inputs for tokens [B, Q] at these positions, which see up to `width` tokens."""

        def mask(reach: Reach) -> torch.Tensor:
            query_BQ1, key_K = position_BQ[:, :, None], np.arange(width)
            hidden_BQK, too_far_BQK = key_K > query_BQ1, reach.hides(query_BQ1, key_K)
            hidden_BQK = hidden_BQK if too_far_BQK is None else hidden_BQK | too_far_BQK
            return added(torch.from_numpy(hidden_BQK).to(device), dtype)[:, None]

        return {
            "input_ids": torch.from_numpy(tokens_BQ).to(device),
            "position_ids": torch.from_numpy(position_BQ).to(device),
            "attention_mask": as_taken(self._reach_of, mask),
            "last_B": torch.from_numpy(last_B).to(device),
        }

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores a layer's new keys and values [B, heads, Q, size]; returns those of all tokens, [B, heads, K, size]."""
        rows = self._rows
        assert rows is not None
        batch, heads = key_states.shape[:2]
        if layer_idx == len(self._keys):
            for stores, states in ((self._keys, key_states), (self._values, value_states)):
                # zeros: what a padded row reads at place 0 is hidden by the mask, but must be finite
                shape = (self.books.budget + 1, heads * states.shape[3])
                stores.append(torch.zeros(shape, dtype=states.dtype, device=states.device))
        new, read = [], []
        for store, states in ((self._keys[layer_idx], key_states), (self._values[layer_idx], value_states)):
            new_FE = states.transpose(1, 2).reshape(-1, store.shape[1])
            new.append(new_FE if rows.computed_F is None else new_FE.index_select(0, rows.computed_F))
            store.index_copy_(0, rows.new_F, new[-1])
        if rows.table is not None and rows.cells_B is not None:
            for cells, new_FE in zip(rows.table.layers[layer_idx], new, strict=True):
                cells.index_copy_(0, rows.cells_B, new_FE)
            read = list(rows.table.layers[layer_idx])
        else:
            read = [store.index_select(0, rows.read_M) for store in (self._keys[layer_idx], self._values[layer_idx])]
            if rows.table is not None:
                rows.table.layers.append((read[0], read[1]))
        keys, values = (
            all_ME.view(batch, -1, heads, states.shape[3])[:, : rows.width].transpose(1, 2)
            for all_ME, states in zip(read, (key_states, value_states), strict=True)
        )
        return keys, values

    def _tabled(self, index_B: Integers) -> tuple[_Table | None, Integers | None]:
        """Returns the table for rows that each compute one token, and the cells to write; no cells for a new table."""
        books, table = self.books, self._table
        placed_B, starts_B, stops_B = books.placed_S[index_B], books.ready_S[index_B], books.known_S[index_B]
        goes_on = table is not None and np.array_equal(table.placed_B, placed_B) and np.array_equal(table.known_B, starts_B)
        if table is not None and goes_on and int(stops_B.max()) <= table.width:
            table.known_B = stops_B
            return table, np.arange(len(index_B)) * table.width + starts_B
        width = min(int(stops_B.max()) + _GROWTH, books.places_ST.shape[1])
        fits = len(index_B) * width <= books.budget
        self._table = _Table(placed_B, stops_B, width) if fits else None
        return self._table, None

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Returns 0: positions are given explicitly, so nothing reads it."""
        return 0


class _Measuring(Cache):
    """Counts the bytes that the keys and values of one token take."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.bytes = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.bytes += key_states.nbytes + value_states.nbytes
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


@torch.inference_mode()
def bytes_per_token(model: Any) -> int:
    """Returns how many bytes a model keeps per token, by computing one with our own cache.

    Raises:
        ConfigError: the model cannot do that, or keeps no keys and values.
    """
    cache, name = _Measuring(), model.config.model_type
    nothing = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    mask = as_taken(reaches(model.config), lambda reach: added(nothing[None, None].bool(), model.dtype))
    try:
        model(input_ids=nothing, position_ids=nothing, attention_mask=mask, past_key_values=cache, use_cache=True)
    except Exception as error:  # anything the model's own code raises means that it is not made for such a cache
        raise ConfigError(
            f"The local engine cannot run {name}: given positions, a mask and a cache for each of several rows, it raises "
            f"{type(error).__name__}: {error}. {ELSEWHERE}"
        ) from error
    if not cache.bytes:
        raise ConfigError(f"The local engine cannot run {name}: it keeps no keys and values. {ELSEWHERE}")
    return cache.bytes


def refuse_foreign_attention(config: Any) -> None:
    """Refuses a model with layers for which there are no masks.

    Args:
        config: of the model.

    Raises:
        ConfigError: it has some.
    """
    try:
        reaches(config)
    except KeyError as error:
        raise ConfigError(
            f"The local engine cannot run {config.model_type}: it has layers of the kind {error}, and this engine keeps "
            f"only keys and values. {ELSEWHERE}"
        ) from error
    implementation = getattr(config, "_attn_implementation", "sdpa")
    if implementation not in ("sdpa", "eager"):
        raise ConfigError(
            f'This engine needs attn_implementation="sdpa" or "eager"; the model was loaded with {implementation!r}.'
        )
