"""Keys and values of past tokens, in slots that forks and continued paths share by prefix.

A slot holds one token sequence. A new request takes over an idle slot whose sequence it continues, or
copies the longest known prefix into the least recently used slot; only what is new is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache


class Placement(NamedTuple):
    """Where a request lives, and how many of its tokens are already computed there."""

    slot: int
    cached: int


@dataclass
class _Rows:
    """What the current forward pass computes: row b continues slot `slots[b]` at position `starts[b]`."""

    slots_B: torch.Tensor
    position_BQ: torch.Tensor
    used_BQ: torch.Tensor
    width: int


class SlotCache(Cache):
    """The `transformers` cache interface over a fixed pool of slots.

    Args:
        slots: S, sequences remembered at the same time.
        length: longest sequence, in tokens.
    """

    def __init__(self, slots: int, length: int) -> None:
        super().__init__(layers=[])
        self._tokens_ST: NDArray[np.int64] = np.full((slots, length), -1, dtype=np.int64)
        self._known_S: NDArray[np.int64] = np.zeros(slots, dtype=np.int64)  # tokens written down
        self._ready_S: NDArray[np.int64] = np.zeros(slots, dtype=np.int64)  # tokens whose keys are computed
        self._used_S: NDArray[np.int64] = np.zeros(slots, dtype=np.int64)
        self._busy_S: NDArray[np.bool_] = np.zeros(slots, dtype=np.bool_)
        self._ticks = 0
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._rows: _Rows | None = None

    # --- which slot -------------------------------------------------------------------------------

    def place(self, context: Sequence[int]) -> Placement | None:
        """Finds a slot for a context; None if it should wait (all busy, or its prefix is being computed)."""
        tokens_T = np.asarray(context, dtype=np.int64)
        length = len(tokens_T) - 1  # at least one token is fed, for its logits
        same_ST = self._tokens_ST[:, :length] == tokens_T[None, :length]
        common_S = np.where(same_ST.all(axis=1), length, same_ST.argmin(axis=1)) if length else np.zeros_like(self._known_S)
        common_S = np.minimum(common_S, self._known_S)
        source = int(np.argmax(np.minimum(common_S, self._ready_S)))
        cached = int(min(common_S[source], self._ready_S[source]))
        if common_S.max(initial=0) > cached:
            return None
        if not self._busy_S[source] and cached > 0 and cached == self._ready_S[source]:
            slot = source
        else:
            idle = np.flatnonzero(~self._busy_S)
            if not len(idle):
                return None
            slot = int(idle[np.argmin(self._used_S[idle])])
            if cached and slot != source:
                for store in (*self._keys, *self._values):
                    store[slot, :, :cached] = store[source, :, :cached]
        self._ticks += 1
        self._used_S[slot], self._busy_S[slot] = self._ticks, True
        self._tokens_ST[slot, : len(tokens_T)] = tokens_T
        self._known_S[slot], self._ready_S[slot] = len(tokens_T), cached
        return Placement(slot, cached)

    def append(self, slot: int, token: int) -> None:
        """Writes down a sampled token, whose keys are computed when the next one is drawn."""
        self._tokens_ST[slot, self._known_S[slot]] = token
        self._known_S[slot] += 1

    def free(self, slot: int) -> None:
        """Ends a sequence; it is remembered until its slot is needed."""
        self._busy_S[slot] = False
        self._known_S[slot] = self._ready_S[slot]

    def forget(self) -> None:
        """Forgets everything: the weights changed."""
        self._known_S[:] = 0
        self._ready_S[:] = 0

    # --- one forward pass ---------------------------------------------------------------------------

    def begin(self, slots: Sequence[int], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """Returns the model inputs for what each slot knows but has not computed: right-padded [B, Q].

        The mask is one that is added, in the model's dtype: eager attention would add a Boolean one, too.
        """
        index = np.asarray(slots)
        starts_B, stops_B = self._ready_S[index], self._known_S[index]
        counts_B, width = stops_B - starts_B, int(stops_B.max())
        offset_Q = np.arange(int(counts_B.max()))
        used_BQ = offset_Q[None] < counts_B[:, None]
        position_BQ = np.minimum(starts_B[:, None] + offset_Q[None], stops_B[:, None] - 1)
        ids_BQ = self._tokens_ST[index[:, None], position_BQ]
        hidden_BQK = np.arange(width)[None, None] > position_BQ[:, :, None]
        self._rows = _Rows(
            torch.from_numpy(index).to(device),
            torch.from_numpy(position_BQ).to(device),
            torch.from_numpy(used_BQ).to(device),
            width,
        )
        self._ready_S[index] = stops_B
        return {
            "input_ids": torch.from_numpy(ids_BQ).to(device),
            "position_ids": self._rows.position_BQ,
            "attention_mask": torch.from_numpy(hidden_BQK[:, None]).to(device, dtype) * torch.finfo(dtype).min,
            "last_B": torch.from_numpy(counts_B - 1).to(device),
        }

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stores a layer's new keys and values [B, H, Q, D]; returns all of each row's, [B, H, K, D]."""
        rows = self._rows
        assert rows is not None
        if layer_idx == len(self._keys):
            slots, length = self._tokens_ST.shape
            for stores, states in ((self._keys, key_states), (self._values, value_states)):
                shape = (slots, states.shape[1], length, states.shape[3])
                stores.append(torch.zeros(shape, dtype=states.dtype, device=states.device))
        slot_N = rows.slots_B[:, None].expand_as(rows.position_BQ)[rows.used_BQ]
        position_N = rows.position_BQ[rows.used_BQ]
        gathered = []
        for store, states in ((self._keys[layer_idx], key_states), (self._values[layer_idx], value_states)):
            store[slot_N, :, position_N] = states.transpose(1, 2)[rows.used_BQ]
            gathered.append(store[rows.slots_B, :, : rows.width])
        return gathered[0], gathered[1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions are given explicitly, so nobody's business."""
        return 0
