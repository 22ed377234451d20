"""Logits of all tokens are never held at once, which changes nothing else."""

import copy
from typing import Any

import pytest
import torch
from model_toys import tiny_model
from packing_toys import random_tree
from rounding import Numbers, check_equal, rounding
from test_packed_gradients import random_credit
from torch.utils._python_dispatch import TorchDispatchMode

from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.losses.clip import ClipLoss
from algorithms.losses.value import ValueLoss
from algorithms.models.logits import has_plain_head, precision
from algorithms.packing.forward import AT_ONCE

VOCABULARY = 509
AT_A_TIME = 40 * VOCABULARY
"""More than there are numbers in the head, and fewer than logits of all tokens."""
TREES = [random_tree(seed, nodes=26, depth=6) for seed in (11, 12, 17)]


def learner(model: Any, at_once: int) -> TorchLearner:
    config = LearnerConfig(learning_rate=1e-2, gradient_clip=1e9, entropy_bonus=0.01)
    made = TorchLearner(model, config, reference=True, values=True)
    made._scorer.at_once = at_once
    return made


def update(some: TorchLearner) -> Numbers:
    scores = some.score(TREES, frozenset({"reference", "values"}))
    metrics = some.update(TREES, random_credit(TREES), scores, ValueLoss(ClipLoss(kl=0.1)), "token")
    gradient = {name: it.grad for name, it in some.model.named_parameters() if it.grad is not None}
    return gradient | {name: torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()}


class Largest(TorchDispatchMode):
    """Remembers the most logits that any operation returned in one tensor of a precision."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.found = dtype, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple) else (out,):
            if isinstance(one, torch.Tensor) and one.shape[-1:] == (VOCABULARY,) and one.dtype == self.dtype:
                self.found = max(self.found, one.numel())
        return out


def most_held(model: Any, at_once: int) -> int:
    some = learner(model, at_once)
    some.logprobs(TREES)  # the first time, whether the model can be packed is found out
    with Largest(precision(model.dtype)) as seen:
        update(some)
    return seen.found


@pytest.mark.numeric
@pytest.mark.parametrize("family", ["llama", "cohere"])
def test_in_chunks_or_not_the_update_is_the_same(family: str) -> None:
    model = tiny_model(family, vocabulary=VOCABULARY, dtype=torch.float64)
    assert has_plain_head(model) == (family == "llama")
    whole, chunked = (update(learner(copy.deepcopy(model), at_once)) for at_once in (AT_ONCE, AT_A_TIME))
    check_equal(chunked, whole, rounding(lambda moved: update(learner(moved, AT_ONCE)), model))


@pytest.mark.parametrize(
    ("family", "dtype"), [("llama", torch.float32), ("llama", torch.bfloat16), ("cohere", torch.bfloat16)], ids=str
)
def test_so_many_logits_are_held_and_no_more(family: str, dtype: torch.dtype) -> None:
    """A model that does something to its logits makes all of them, in its own precision."""
    model = tiny_model(family, vocabulary=VOCABULARY).to(dtype)
    assert model.get_output_embeddings().weight.numel() < AT_A_TIME
    assert most_held(copy.deepcopy(model), AT_A_TIME) == AT_A_TIME
    assert most_held(model, AT_ONCE) > 2 * AT_A_TIME


def test_few_logits_are_computed_once() -> None:
    some = learner(tiny_model(vocabulary=VOCABULARY), AT_ONCE)
    some.logprobs(TREES)
    calls: list[int] = []
    some.model.get_output_embeddings().register_forward_hook(lambda *_: calls.append(1))
    some.logprobs(TREES)
    forward = len(calls)
    some.update(TREES, random_credit(TREES), some.score(TREES, frozenset()), ClipLoss(), "token")
    assert len(calls) == 2 * forward > 0
