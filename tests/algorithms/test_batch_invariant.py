"""The local engine, batch-invariant: not a bit of a generation, or of a tree, depends on what is computed beside it."""

import asyncio
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES
from model_toys import byte_tokenizer, tiny_model
from rollout_toys import CountTool
from test_agreement import NO_CACHE
from test_trainer import Lenient
from turns import some_slow

from algorithms import Algorithm, make
from algorithms.policies.blocks import block_size
from algorithms.policies.local import LocalPolicy
from algorithms.rendering import TextRenderer
from algorithms.rollout import Limits, Start, collect
from algorithms.testing import Law, Promises, check_policy

TOKENIZER = byte_tokenizer()
EVERYWHERE = ("llama", "deepseek-v3")
"""One without and one with experts."""
USUAL = ("mistral-window", "gemma3", "gpt2")
ZOO = [
    *(pytest.param(name, marks=pytest.mark.numeric) for name in EVERYWHERE),
    *some_slow([name for name in ARCHITECTURES if name not in {*NO_CACHE, *EVERYWHERE}], USUAL, every=3),
]


def policy(model: Any, **options: Any) -> LocalPolicy:
    return LocalPolicy(
        model, TOKENIZER, **({"context_length": 128, "slots": 8, "cache_tokens": 500} | options), batch_invariant=True
    )


def lenient() -> Any:
    """Any action is a call, and the fourth an answer."""
    return Lenient(CountTool())


def grown(model: Any, algorithm: Algorithm, seeds: range, first: int) -> list[str]:
    async def run() -> list[str]:
        some = policy(model, context_length=256, slots=32, cache_tokens=None)
        renderer = TextRenderer(TOKENIZER, with_instructions=False)
        limits = Limits(action_tokens=12, answer_reserve=8)
        try:
            tasks = [Start(seed) for seed in seeds]
            trees = await collect(lenient, tasks, some, renderer, algorithm, seed=1, first=first, limits=limits)
        finally:
            await some.close()
        return [tree.to_json() for tree in trees]

    return asyncio.run(run())


@pytest.mark.numeric
@pytest.mark.parametrize(
    "algorithm",
    [
        make("arpo", rollouts=6, roots=3),
        pytest.param(make("grpo", rollouts=6), marks=pytest.mark.slow),
        pytest.param(make("tree_grpo", rollouts=6), marks=pytest.mark.slow),
    ],
    ids=lambda algorithm: algorithm.name,
)
def test_a_prompts_tree_is_the_same_alone_and_beside_others(algorithm: Algorithm) -> None:
    model = tiny_model(max_position_embeddings=256)
    together = grown(model, algorithm, range(40, 44), 0)
    assert together == [tree for i in range(4) for tree in grown(model, algorithm, range(40 + i, 41 + i), i)]


@pytest.mark.parametrize("name", ZOO)
def test_the_bits_of_a_generation_depend_on_its_request_alone(name: str) -> None:
    """Whatever the architecture; one with experts computes a token at a time."""
    check_bits(name, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*EVERYWHERE, *USUAL])
def test_so_do_they_in_half_precision(name: str) -> None:
    check_bits(name, torch.bfloat16)


def check_bits(name: str, dtype: torch.dtype) -> None:
    model = ARCHITECTURES[name]().to(dtype)
    report = check_policy(
        lambda: policy(model, context_length=48 if name == "llama-dynamic-rope" else 128),
        encode=lambda text: TOKENIZER.encode(text[:24], add_special_tokens=False),
        decode=lambda ids: str(TOKENIZER.decode(list(ids), clean_up_tokenization_spaces=False)),
        promises=Promises(bits=True),
        capacity=10,  # more than there are slots, so that what is kept makes room
        skip={law: "not now" for law in Law if law not in (Law.SHAPES, Law.BITS)},
    )
    assert report.passed == (Law.SHAPES, Law.BITS), str(report)


def test_a_model_in_which_later_tokens_change_earlier_ones_is_computed_token_by_token() -> None:
    model = tiny_model()
    plain = model.forward

    def by_count(input_ids: torch.Tensor, **rest: Any) -> Any:
        out = plain(input_ids=input_ids, **rest)
        out.logits += 1e-6 * (input_ids[:, -1] > 200)
        return out

    assert block_size(model) > 1
    model.forward = by_count
    assert block_size(model) == 1
