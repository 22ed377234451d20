"""Whether a model can be trained on packed trees: compared with flat rows, on paths as long as those to come."""

import math
from typing import Any

import numpy as np
import torch

from ..advantages import Credit, sampled_weights
from ..models import own
from ..models.attention import reaches
from ..tree import NO_PARENT, Node, RolloutTree, Status
from .batch import lay_out
from .flat import rows_of
from .forward import Scorer, score
from .layout import pack

ROOM = 1.0
"""How many measured roundings packed and flat rows, computed in one precision, may differ by: correct masks stayed below 0.75
in every precision, masks off by one were above 1.4 on the smallest tree in bfloat16, and in the thousands in float32."""
_DRAWS = 4
"""Directions of roundings that are tried: in bfloat16, what one of them shows may be half of what another one does."""
_LENGTH = 32
"""Tokens of the longest path of the smallest tree that has all kinds of forks."""
_PASSES = 48
"""Forward passes over a path's length that a comparison amounts to."""


def why_not_packable(model: Any, length: int = _LENGTH, scorer: Scorer | None = None) -> str | None:
    """Returns why a model cannot be trained on packed trees, or None if it can.

    In a model whose layers keep a state, a token sees more than its ancestors. What the configuration does not tell is found
    by comparing a tree's log-probabilities with those of its flat rows: for a small tree, on which a mask off by one shows in
    every precision, and for one with paths of the given length, which has only two leaves if the model is large.

    Args:
        model: a causal language model of `transformers`.
        length: tokens of the longest path for which the answer must hold.
        scorer: of the model, where it can only be run through this one; by default it is run as it is.
    """
    scorer = scorer or Scorer(model)
    config = model.config.get_text_config()
    try:
        reaches(config)
    except KeyError as error:
        return f"{config.model_type} has layers of the kind {error}"
    implementation = getattr(config, "_attn_implementation", "sdpa")
    if implementation not in ("sdpa", "eager", "flex_attention"):
        return f"its attention is {implementation!r}, which cannot take a tree's mask; load it with sdpa"
    few = max(_LENGTH, own.affordable(model, _PASSES))
    for longest, leaves in [(_LENGTH, 8), *([(length, 8 if length <= few else 2)] if length > _LENGTH else [])]:
        explained = ROOM * rounding(model, min(longest, few), scorer)
        try:
            apart = difference(model, longest, leaves, scorer)
        except Exception as error:  # noqa: BLE001  # anything the model's own code raises: it does not take such masks
            return f"{config.model_type} cannot take a tree's mask ({type(error).__name__}: {error})"
        if not apart <= explained:
            return (
                f"log-probabilities of a tree with paths of {longest} tokens differ by {apart:.2g} nats from those of its flat "
                f"rows, which is more than the {explained:.2g} that its precision explains"
            )
    return None


def difference(model: Any, length: int = _LENGTH, leaves: int = 8, scorer: Scorer | None = None) -> float:
    """Returns how far the log-probabilities of a packed tree are from those of its flat rows, root mean square, nats."""
    packed, flat = (_scored(model, length, leaves, packed=packed, scorer=scorer) for packed in (True, False))
    return float((packed - flat).square().mean().sqrt())


def rounding(model: Any, length: int = _LENGTH, scorer: Scorer | None = None) -> float:
    """Returns how far the log-probabilities of flat rows move when every layer is rounded once more, root mean square, nats.

    Scoring rows one by one would not show it: many kernels give them the same bits as in a batch.
    """
    exact, eps = _scored(model, length, 8, packed=False, scorer=scorer), own.eps(model.dtype, model.device)
    moved = 0.0
    for seed in range(_DRAWS):
        with own.rounded_once_more(model, eps, seed):
            moved += float((_scored(model, length, 8, packed=False, scorer=scorer) - exact).square().mean())
    return math.sqrt(moved / _DRAWS)


@torch.no_grad()
def _scored(model: Any, length: int, count: int, *, packed: bool, scorer: Scorer | None = None) -> torch.Tensor:
    """Returns the log-probabilities of a tree's paths, [B, T]."""
    tree = _tree(int(model.config.get_text_config().vocab_size), length, count)
    leaves = range(len(tree.leaves()))
    blank = tuple(np.zeros(tree.length(leaf)) for leaf in tree.leaves())
    rows = rows_of([tree], Credit((blank,), (sampled_weights(tree),)))
    split = [leaves] if packed else [[leaf] for leaf in leaves]
    batch = lay_out([pack(tree, some) for some in split], rows, model, model.device)
    return score(scorer or Scorer(model), batch, batch.paths.weight_BT > 0, 1.0).logp_BT


def _tree(vocabulary_size: int, length: int, count: int) -> RolloutTree:
    """Returns a tree of two leaves, or of eight, with forks at the prompt, after an observation and inside an action.

    Its longest path has `length` tokens; the branches of the eight hold a quarter of them.
    """
    ids = np.random.default_rng(0).integers(vocabulary_size, size=8 * (length + _LENGTH)).tolist()
    tree = RolloutTree()

    def add(key: tuple[int, ...], parent: int, kind: Any, count: int, **fields: Any) -> int:
        at = len(tree.nodes[parent].tokens) if parent != NO_PARENT else 0
        tokens = tuple(ids.pop() for _ in range(count))
        zeros = (0.0,) * count
        return tree.add(Node(key, parent, at, kind, tokens, (kind == "action",) * count, zeros, zeros, **fields))

    end = {"status": Status.ANSWERED, "reward": 0.0}
    if count == 2:
        prompt = add((), NO_PARENT, "prompt", length - 8)
        for root in range(2):
            add((root,), prompt, "action", 8 - root, **end)
        return tree.freeze()
    spare = max(0, length - 26)  # tokens besides those of the smallest tree
    prompt = add((), NO_PARENT, "prompt", 7 + spare - spare // 4)
    for root in range(2):
        called = add((root,), prompt, "action", 5)
        result = add((root, 0), called, "observation", 6 + (0 if root else spare // 4))
        for fork in range(2):
            second = add((root, 0, fork), result, "action", 3 + fork)
            add((root, 0, fork, 0), second, "action", 4, **end)
            add((root, 0, fork, 1), second, "action", 1 + root, **end)
    return tree.freeze()
