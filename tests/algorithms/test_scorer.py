"""Logits of all tokens are never held at once, which changes nothing else."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES
from model_toys import tiny_model
from packing_toys import random_tree
from rounding import Numbers, check_equal, rounding
from test_packed_gradients import random_credit
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaForCausalLM

from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.losses.clip import ClipLoss
from algorithms.losses.value import ValueLoss
from algorithms.models.logits import Finish, finish_of, precision
from algorithms.packing.forward import AT_ONCE

VOCABULARY = 509
AT_A_TIME = 40 * VOCABULARY
"""More than there are numbers in the head, and fewer than logits of all tokens."""
TREES = [random_tree(seed, nodes=26, depth=6) for seed in (11, 12, 17)]


class Odd(LlamaForCausalLM):
    """Its logits depend on each other."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits - output.logits.mean(-1, keepdim=True)
        return output


def made(family: str, **options: Any) -> Any:
    model = tiny_model("llama" if family == "odd" else family, vocabulary=VOCABULARY, **options)
    if family == "odd":
        model.__class__ = Odd
    return model


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
@pytest.mark.parametrize("family", ["llama", "cohere", "odd"])
def test_in_chunks_or_not_the_update_is_the_same(family: str) -> None:
    model = made(family, dtype=torch.float64)
    whole, chunked = (update(learner(copy.deepcopy(model), at_once)) for at_once in (AT_ONCE, AT_A_TIME))
    check_equal(chunked, whole, rounding(lambda moved: update(learner(moved, AT_ONCE)), model))


@pytest.mark.parametrize(
    ("family", "dtype"),
    [("llama", torch.float32), ("llama", torch.bfloat16), ("cohere", torch.float32), ("odd", torch.bfloat16)],
    ids=str,
)
def test_so_many_logits_are_held_and_no_more(family: str, dtype: torch.dtype) -> None:
    """A model whose logits come about in an odd way makes all of them, in its own precision."""
    model = made(family).to(dtype)
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


# --- what a model does to what its head gives ----------------------------------------------------------------------

CAPPED = Finish(cap=5.0)
SCALED = Finish(scale=0.7)
FINISHES = {
    "gemma2": CAPPED,
    "gemma3n-text": CAPPED,
    "recurrent-gemma": CAPPED,
    "cohere": SCALED,
    "cohere2": SCALED,
    "falcon-h1": SCALED,
    "granite": Finish(scale=1 / 0.7),
}
WHOLE = {"llama4-text": "any precision", "mamba": "bfloat16", "mamba2": "bfloat16"}
"""Whose logits are computed whole: `transformers` does not find the model below the head, or casts between the two."""


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_becomes_of_a_number_is_seen_of_every_architecture(name: str, dtype: torch.dtype) -> None:
    model = ARCHITECTURES[name]().to(dtype)
    found = finish_of(model)
    if WHOLE.get(name) in ("any precision", str(dtype).removeprefix("torch.")):
        assert found is None
        return
    assert found is not None
    wanted = FINISHES.get(name, Finish())
    assert (found.scale, found.cap) == (pytest.approx(wanted.scale, rel=1e-7), wanted.cap)


@pytest.mark.parametrize("weights", [0.0, 1e-4, 30.0])
def test_a_cap_that_is_not_felt_yet_is_seen(weights: float) -> None:
    model = ARCHITECTURES["gemma2"]()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(weights)
    assert finish_of(model) == CAPPED


@pytest.mark.parametrize("what", ["odd", "twice", "infinite", "broken", "upside down", "bent"])
def test_what_is_not_scaled_or_capped_is_computed_whole(what: str) -> None:
    model = made("odd" if what == "odd" else "llama")
    head = model.get_output_embeddings()
    changes: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "infinite": lambda logits: logits.index_fill(-1, torch.tensor([3]), -torch.inf),
        "upside down": torch.neg,
        "bent": lambda logits: torch.where(logits > 0.0, 2.0 * logits, logits),
    }
    if what == "twice":
        model.model.register_forward_hook(lambda *_: head(torch.zeros(1, 1, 32)) is None or None)
    elif what == "broken":
        head.weight.data[0, 0] = torch.nan
    elif what in changes:
        plain = model.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            output = plain(*args, **kwargs)
            output.logits = changes[what](output.logits)
            return output

        model.forward = forward
    assert finish_of(model) is None
    assert model.training is False
    assert not head._forward_hooks
