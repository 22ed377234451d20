"""Packed rows as a batch for the model: ids, positions, and a mask in which each token sees its own path."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from ..models.attention import Reach, added, as_taken, reaches
from ..models.logits import precision
from .flat import FlatBatch, Row, pad
from .layout import PackedRow, joined

BLOCK = 128
"""Tokens in a block of FlexAttention's masks; rows are padded to a multiple, or it would use kernels made for sampling."""


@dataclass(frozen=True)
class PackedBatch:
    """A micro-batch: rows for the model, and where each path's tokens are in them.

    Args:
        ids_RF: [R, F] ids, right-padded.
        tree: further inputs where rows hold several paths: positions and mask; empty if each row holds one.
        index_BT: [B, T], where token t of path b is in the flattened `ids_RF`; 0 in padding.
        paths: [B, T] tensors of the same paths, for the loss.
        computed_tokens: how many tokens go through the model, padding not counted.
    """

    ids_RF: torch.Tensor
    tree: dict[str, Any]
    index_BT: torch.Tensor
    paths: FlatBatch
    computed_tokens: int


def lay_out(packed: Sequence[PackedRow], rows: Sequence[Row], model: Any, device: torch.device) -> PackedBatch:
    """Returns packed rows as a batch; either all of them hold one leaf, or they get a mask.

    For FlexAttention they become one row: blocks that no token sees cost nothing, and few shapes are compiled.

    Args:
        packed: R rows; their leaves are indices into `rows`.
        rows: every path of the batch of trees.
        model: determines the form of the mask.
        device: where to put the tensors.
    """
    flex = _attention(model) == "flex_attention"
    if flex:
        packed = [joined(packed)]
    longest = max(map(len, packed))
    longest += -longest % BLOCK if flex else 0
    shape = (len(packed), longest)
    ids_RF, position_RF = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    end_RF = np.broadcast_to(np.arange(1, longest + 1), shape).copy()  # padding sees only itself
    for r, row in enumerate(packed):
        ids_RF[r, : len(row)], position_RF[r, : len(row)], end_RF[r, : len(row)] = row.tokens, row.position, row.end
    paths = pad([rows[leaf] for row in packed for leaf in row.leaves], device, precision(model.dtype))
    index_BT = np.zeros(paths.ids_BT.shape, dtype=np.int64)
    places = [(r, index) for r, row in enumerate(packed) for index in row.index]
    for line, (r, index) in zip(index_BT, places, strict=True):
        line[: len(index)] = r * longest + index
    tree = {}
    if flex or any(len(row.leaves) > 1 for row in packed):
        end, position = torch.from_numpy(end_RF).to(device), torch.from_numpy(position_RF).to(device)
        mask = as_taken(reaches(model.config), lambda reach: _as_wanted(end, position, reach, model))
        tree = {"position_ids": position, "attention_mask": mask}
    on_device = (torch.from_numpy(array).to(device) for array in (ids_RF, index_BT))
    return PackedBatch(next(on_device), tree, next(on_device), paths, sum(map(len, packed)))


def without_paths(rows: Sequence[Row], like: int, model: Any, device: torch.device) -> PackedBatch:
    """Returns a batch of two tokens on which nothing is scored, so its gradient is 0; B is 0.

    Args:
        rows: every path of the batch of trees.
        like: index of one that has two tokens or more; the paths of the result hold the same kinds of numbers as it does.
        model: determines the form of the mask.
        device: where to put the tensors.
    """
    two = np.arange(2)
    batch = lay_out([PackedRow(rows[like].tokens[:2], two, np.full(2, 2), (like,), (two,))], rows, model, device)
    given = {field.name: getattr(batch.paths, field.name) for field in fields(FlatBatch)}
    paths: Any = {name: None if one is None else one[:0] for name, one in given.items()}
    return replace(batch, index_BT=batch.index_BT[:0], paths=FlatBatch(**paths), computed_tokens=0)


def visible(end_RF: torch.Tensor) -> torch.Tensor:
    """Returns which token sees which, [R, F, F] with queries before keys: k <= q < end[k].

    >>> visible(torch.tensor([[4, 2, 4, 4]]))[0].int()  # a prompt, a leaf of one token, a leaf of two
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 0, 1, 0],
            [1, 0, 1, 1]], dtype=torch.int32)
    """
    place_F = torch.arange(end_RF.shape[1], device=end_RF.device)
    return (place_F[:, None] >= place_F) & (place_F[:, None] < end_RF[:, None, :])


def visible_blocks(end_RF: torch.Tensor, position_RF: torch.Tensor, reach: Reach = Reach()) -> Any:
    """Returns the same for FlexAttention: blocks that no token sees are never computed, and the whole mask is never held.

    Args:
        end_RF: [R, F]; F is a multiple of `BLOCK`.
        position_RF: [R, F], of each token on its path.
        reach: how far the layers see.
    """
    from torch.nn.attention.flex_attention import BlockMask

    def sees(row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        seen = (query >= key) & (query < end_RF[row, key])
        hidden = reach.hides(position_RF[row, query], position_RF[row, key])
        return seen if hidden is None else seen & ~hidden

    (low_RC, high_RC), (first_RC, last_RC) = _extremes(end_RF), _extremes(position_RF)
    start_C = torch.arange(0, end_RF.shape[1], BLOCK, device=end_RF.device)
    later_CC = start_C[:, None] > start_C
    some_RCC = later_CC & (high_RC[:, None] > start_C[:, None]) | (start_C[:, None] == start_C)
    all_RCC = later_CC & (low_RC[:, None] >= start_C[:, None] + BLOCK)
    if reach.window is not None:
        some_RCC &= first_RC[:, :, None] - last_RC[:, None] < reach.window
        all_RCC &= last_RC[:, :, None] - first_RC[:, None] < reach.window
    elif reach.chunk is not None:
        all_RCC = torch.zeros_like(some_RCC)
    partial, whole = (_listed(blocks_RCC) for blocks_RCC in (some_RCC & ~all_RCC, all_RCC))
    return BlockMask.from_kv_blocks(*partial, *whole, BLOCK_SIZE=BLOCK, mask_mod=sees)


def _extremes(number_RF: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the lowest and the highest number of each block, [R, C]."""
    number_RCW = number_RF.reshape(len(number_RF), -1, BLOCK)
    return number_RCW.amin(-1), number_RCW.amax(-1)


def _listed(chosen_RCC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns how many blocks are chosen for each block of queries, [R, 1, C], and which come first, [R, 1, C, C]."""
    order_RCC = chosen_RCC.int().argsort(dim=-1, descending=True, stable=True)
    return chosen_RCC.sum(-1, dtype=torch.int32)[:, None], order_RCC.int()[:, None]


def _attention(model: Any) -> str:
    return str(getattr(model.config, "_attn_implementation", "sdpa"))


def _as_wanted(end_RF: torch.Tensor, position_RF: torch.Tensor, reach: Reach, model: Any) -> Any:
    """Returns the mask of one kind of layer, in the form that the model's attention takes."""
    implementation = _attention(model)
    if implementation == "flex_attention":
        return visible_blocks(end_RF, position_RF, reach)
    seen_RFF = visible(end_RF)
    hidden_RFF = reach.hides(position_RF[:, :, None], position_RF[:, None, :])  # on a path, positions give the distance
    seen_R1NN = (seen_RFF if hidden_RFF is None else seen_RFF & ~hidden_RFF)[:, None]
    return added(~seen_R1NN, model.dtype) if implementation == "eager" else seen_R1NN
