"""How many tokens of one sequence can be computed together without one changing another's last bits."""

from typing import Any

import torch

_SIZE = 16
"""Tokens in a block; up to here one more costs little."""
_TRIES = 32


@torch.inference_mode()
def block_size(model: Any) -> int:
    """Returns how many tokens to compute together so that the bits of each depend only on it and those before it.

    In a product of a fixed shape, a row's bits do not depend on the other rows, so a block may be computed before all of it
    is known. Where a model sends tokens to experts, the shapes follow from the tokens, and one is computed at a time. Which
    it is, is tried: random blocks, with and without their later tokens. Of eight models with experts, each reveals itself in
    a third of the tries or more.

    Args:
        model: a causal language model of `transformers`.
    """
    vocabulary = model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    for known in (1 + i % (_SIZE - 1) for i in range(_TRIES)):
        whole = torch.randint(vocabulary, (1, _SIZE), generator=generator).to(model.device)
        begun = whole.clone()
        begun[:, known:] = 0
        some, same = (model(input_ids=ids, use_cache=False).logits[:, :known] for ids in (whole, begun))
        if not torch.equal(some, same):
            return 1
    return _SIZE
