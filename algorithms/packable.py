"""Whether a model can be trained on packed trees: by what it says of itself, and by a small comparison with flat rows."""

from typing import Any

import numpy as np
import torch

from .advantages import Credit, sampled_weights
from .flat import rows_of
from .forward import lay_out, score
from .logits import Logits
from .packing import pack
from .tree import NO_PARENT, Node, RolloutTree, Status

_LEAST_TOLERANCE = 1e-4
"""Nats; both ways compute the same numbers in another order."""
_ROUNDINGS = 2.0
"""So many times what one rounding of the embeddings does may the two differ; correct masks stayed below 0.9 in bfloat16 and
float16, masks off by one were above 2.9."""


def why_not_packable(model: Any) -> str | None:
    """Returns why a model cannot be trained on packed trees, None if it can.

    A model whose layers keep a state, look through a window or add sinks sees more than its ancestors, or less. Such
    models are recognised by their configuration; what it does not say, the comparison of one tree's log-probabilities
    with those of its flat rows does.
    """
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        return f"{config.model_type} has layers of the kind {', '.join(sorted(kinds - {'full_attention'}))}"
    if any(name.endswith("sinks") for name, _ in model.named_parameters()):
        return f"{config.model_type} has attention sinks"
    implementation = getattr(config, "_attn_implementation", "sdpa")
    if implementation not in ("sdpa", "eager", "flex_attention"):
        return f"its attention is {implementation!r}, which takes no mask of a tree; load it with sdpa"
    difference = greatest_difference(model)
    tolerance = max(_LEAST_TOLERANCE, _ROUNDINGS * rounding(model))
    if not difference <= tolerance:
        return (
            f"log-probabilities of a small tree differ by {difference:.2g} nats from those of its flat rows, which is more "
            f"than the {tolerance:.2g} that its precision explains"
        )
    return None


def greatest_difference(model: Any) -> float:
    """Returns the largest difference of a log-probability between a packed tree and its flat rows, nats."""
    return float((_scored(model, packed=True) - _scored(model, packed=False)).abs().max())


def rounding(model: Any) -> float:
    """Returns how far a log-probability of flat rows moves when each embedding is rounded to a neighbouring number, nats.

    Rows scored one by one do not tell: many kernels give them the same bits as in a batch.
    """
    rng = np.random.default_rng(0)

    def moved(module: torch.nn.Module, inputs: Any, embedded: torch.Tensor) -> torch.Tensor:
        signs = torch.from_numpy(rng.choice((-1.0, 1.0), size=tuple(embedded.shape))).to(embedded)
        return embedded * (1.0 + torch.finfo(embedded.dtype).eps * signs)

    exact = _scored(model, packed=False)
    hook = model.get_input_embeddings().register_forward_hook(moved)
    try:
        return float((_scored(model, packed=False) - exact).abs().max())
    finally:
        hook.remove()


@torch.no_grad()
def _scored(model: Any, *, packed: bool) -> torch.Tensor:
    """Returns the log-probabilities of a small tree's paths, [B, T]."""
    tree = _tree(int(model.config.get_text_config().vocab_size))
    leaves = range(len(tree.leaves()))
    blank = tuple(np.zeros(len(tree.tokens(leaf))) for leaf in tree.leaves())
    rows = rows_of([tree], Credit((blank,), (sampled_weights(tree),)))
    split = [leaves] if packed else [[leaf] for leaf in leaves]
    batch = lay_out([pack(tree, some) for some in split], rows, model, model.device)
    return score(Logits(model), batch, batch.paths.weight_BT > 0, 1.0).logp_BT


def _tree(vocabulary_size: int) -> RolloutTree:
    """Returns a tree with forks at the prompt, after an observation and inside an action, on three levels."""
    ids = np.random.default_rng(0).integers(vocabulary_size, size=256).tolist()
    tree = RolloutTree()

    def add(key: tuple[int, ...], parent: int, kind: Any, count: int, **fields: Any) -> int:
        at = len(tree.nodes[parent].tokens) if parent != NO_PARENT else 0
        tokens = tuple(ids.pop() for _ in range(count))
        zeros = (0.0,) * count
        return tree.add(Node(key, parent, at, kind, tokens, (kind == "action",) * count, zeros, zeros, **fields))

    end = {"status": Status.ANSWERED, "reward": 0.0}
    prompt = add((), NO_PARENT, "prompt", 7)
    for root in range(2):
        called = add((root,), prompt, "action", 5)
        result = add((root, 0), called, "observation", 6)
        for fork in range(2):
            second = add((root, 0, fork), result, "action", 3 + fork)
            add((root, 0, fork, 0), second, "action", 4, **end)
            add((root, 0, fork, 1), second, "action", 1 + root, **end)
    return tree.freeze()
