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
        ids_RN: [R, N] ids, right-padded.
        tree: further inputs where rows hold several paths: positions and mask; empty if each row holds one.
        index_BT: [B, T], where token t of path b is in the flattened `ids_RN`; 0 in padding.
        paths: [B, T] tensors of the same paths, for the loss.
        computed_tokens: how many tokens go through the model, padding not counted.
    """

    ids_RN: torch.Tensor
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
    ids_RN, position_RN = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    end_RN = np.broadcast_to(np.arange(1, longest + 1), shape).copy()  # padding sees only itself
    for r, row in enumerate(packed):
        ids_RN[r, : len(row)], position_RN[r, : len(row)], end_RN[r, : len(row)] = row.tokens, row.position, row.end
    paths = pad([rows[leaf] for row in packed for leaf in row.leaves], device, precision(model.dtype))
    index_BT = np.zeros(paths.ids_BT.shape, dtype=np.int64)
    places = [(r, index) for r, row in enumerate(packed) for index in row.index]
    for line, (r, index) in zip(index_BT, places, strict=True):
        line[: len(index)] = r * longest + index
    tree = {}
    if flex or any(len(row.leaves) > 1 for row in packed):
        end, position = torch.from_numpy(end_RN).to(device), torch.from_numpy(position_RN).to(device)
        mask = as_taken(reaches(model.config), lambda reach: _as_wanted(end, position, reach, model))
        tree = {"position_ids": position, "attention_mask": mask}
    on_device = (torch.from_numpy(array).to(device) for array in (ids_RN, index_BT))
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


def visible(end_RN: torch.Tensor) -> torch.Tensor:
    """Returns which token sees which, [R, N, N] with queries before keys: k <= q < end[k].

    >>> visible(torch.tensor([[4, 2, 4, 4]]))[0].int()  # a prompt, a leaf of one token, a leaf of two
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 0, 1, 0],
            [1, 0, 1, 1]], dtype=torch.int32)
    """
    place_N = torch.arange(end_RN.shape[1], device=end_RN.device)
    return (place_N[:, None] >= place_N) & (place_N[:, None] < end_RN[:, None, :])


def visible_blocks(end_RN: torch.Tensor, position_RN: torch.Tensor, reach: Reach = Reach()) -> Any:
    """Returns the same for FlexAttention: blocks that no token sees are never computed, and the whole mask is never held.

    Args:
        end_RN: [R, N]; N is a multiple of `BLOCK`.
        position_RN: [R, N], of each token on its path.
        reach: how far the layers see.
    """
    from torch.nn.attention.flex_attention import BlockMask

    def sees(row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        seen = (query >= key) & (query < end_RN[row, key])
        hidden = reach.hides(position_RN[row, query], position_RN[row, key])
        return seen if hidden is None else seen & ~hidden

    (low_RC, high_RC), (first_RC, last_RC) = _extremes(end_RN), _extremes(position_RN)
    start_C = torch.arange(0, end_RN.shape[1], BLOCK, device=end_RN.device)
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


def _extremes(number_RN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the lowest and the highest number of each block, [R, C]."""
    number_RCW = number_RN.reshape(len(number_RN), -1, BLOCK)
    return number_RCW.amin(-1), number_RCW.amax(-1)


def _listed(chosen_RCC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns how many blocks are chosen for each block of queries, [R, 1, C], and which come first, [R, 1, C, C]."""
    order_RCC = chosen_RCC.int().argsort(dim=-1, descending=True, stable=True)
    return chosen_RCC.sum(-1, dtype=torch.int32)[:, None], order_RCC.int()[:, None]


def _attention(model: Any) -> str:
    return str(getattr(model.config, "_attn_implementation", "sdpa"))


def _as_wanted(end_RN: torch.Tensor, position_RN: torch.Tensor, reach: Reach, model: Any) -> Any:
    """Returns the mask of one kind of layer, in the form that the model's attention takes."""
    implementation = _attention(model)
    if implementation == "flex_attention":
        return visible_blocks(end_RN, position_RN, reach)
    seen_RNN = visible(end_RN)
    hidden_RNN = reach.hides(position_RN[:, :, None], position_RN[:, None, :])  # on a path, positions give the distance
    seen_R1NN = (seen_RNN if hidden_RNN is None else seen_RNN & ~hidden_RNN)[:, None]
    return added(~seen_R1NN, model.dtype) if implementation == "eager" else seen_R1NN
