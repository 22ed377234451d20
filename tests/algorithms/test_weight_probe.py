"""Weights that arrive: updates that change nothing, or only a part, are found and named, and whole ones never are."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from cluster_toys import HASTY, InProcess
from model_toys import byte_tokenizer, tiny_model
from test_openai_policy import folder, serve, within  # noqa: F401  # fixtures

from algorithms.cluster import ClusterPolicy, Engines, Equipment
from algorithms.learner import LearnerConfig, LoRA, TorchLearner
from algorithms.models.agreement import Arrival, WeightProbe, WeightsDiffer
from algorithms.policies import openai
from algorithms.policies.local import LocalPolicy
from algorithms.policies.openai import OpenAIPolicy
from algorithms.rendering import ScriptedRenderer

pytestmark = pytest.mark.numeric

TOKENIZER = byte_tokenizer()
Weights = Mapping[str, torch.Tensor]
Spoil = Callable[[Weights, Weights], Weights]
"""(new weights, those the engine has) -> those that arrive."""


def moved(model: Any, seed: int, size: float) -> None:
    """Changes all weights a bit, as an update does."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(size * torch.randn(parameter.shape, generator=draws))


class Elsewhere:
    """A policy whose engine cannot be looked into, as one in another process, and does not say how exactly it computes."""

    def __init__(self, policy: LocalPolicy) -> None:
        for name in ("generate", "forget", "context_length", "vocabulary_size"):
            setattr(self, name, getattr(policy, name))


def probed(
    model: Any, *spoils: Spoil | None, size: float = 1e-3, hidden: bool = False, dtype: Any = None, **options: Any
) -> list[Arrival]:
    """Returns how weights arrived after each of some updates; None for one that nothing is done to.

    Args:
        model: to train.
        spoils: of the updates.
        size: of each.
        hidden: whether the engine's tensors cannot be looked at.
        dtype: of the engine.
        options: of the learner.
    """

    async def run() -> list[Arrival]:
        policy, learner = LocalPolicy(model, TOKENIZER, context_length=96, dtype=dtype), TorchLearner(model, **options)
        engine, found = policy.model, []
        if engine.lm_head.weight is engine.model.embed_tokens.weight:  # two matrices, as in `export`
            engine.lm_head.weight = torch.nn.Parameter(engine.lm_head.weight.clone(), requires_grad=False)
        probe = WeightProbe(Elsewhere(policy) if hidden else policy, learner)  # type: ignore[arg-type]
        try:
            await policy.load(learner.weights(), 0)
            await probe.begin()
            for step, spoil in enumerate(spoils, 1):
                moved(learner.model, step, size)
                before = {name: tensor.clone() for name, tensor in engine.state_dict().items()}
                new = learner.weights()
                await policy.load(new if spoil is None else dict(new) | spoil(new, before), step)
                found += await probe.require()
            return found
        finally:
            await policy.close()

    return asyncio.run(run())


# --- planted faults: what arrives instead of the new weights ------------------------------------------------------


def nothing(new: Weights, old: Weights) -> Weights:
    return old


def half(new: Weights, old: Weights) -> Weights:
    return {name: old[name] for name in list(new)[len(new) // 2 :]}


def one_matrix(new: Weights, old: Weights) -> Weights:
    return {"model.layers.1.self_attn.o_proj.weight": old["model.layers.1.self_attn.o_proj.weight"]}


def turned(new: Weights, old: Weights) -> Weights:
    return {"model.layers.0.self_attn.q_proj.weight": new["model.layers.0.self_attn.q_proj.weight"].T}


def old_head(new: Weights, old: Weights) -> Weights:
    return {"lm_head.weight": old["lm_head.weight"]}


def old_embedding(new: Weights, old: Weights) -> Weights:
    return {"model.embed_tokens.weight": old["model.embed_tokens.weight"]}


def old_ends(new: Weights, old: Weights) -> Weights:
    return {**old_head(new, old), **old_embedding(new, old)}


FAULTS: list[tuple[Spoil, str, str]] = [
    (nothing, "it still draws with those of step 2", "it still draws with those of step 2"),
    (half, "11 of its tensors did not arrive, the first of them model.layers.1", "a part of them did not arrive"),
    (one_matrix, "1 of its tensors did not arrive, the first of them model.layers.1.self_attn.o_proj", "a part of them"),
    (turned, "1 of its tensors did not arrive, the first of them model.layers.0.self_attn.q_proj", "or not in its place"),
]
"""What arrives, and what is said of it, where the engine's tensors can be looked at and where they cannot."""


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(("fault", "seen", "unseen"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS])
def test_weights_that_do_not_arrive_are_found_and_named(fault: Spoil, seen: str, unseen: str, hidden: bool) -> None:
    with pytest.raises(WeightsDiffer, match="does not draw with the learner's weights of step 3") as caught:
        probed(tiny_model(), None, None, fault, hidden=hidden)
    assert (unseen if hidden else seen) in str(caught.value)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    ("fault", "where"), [(old_head, "head"), (old_embedding, "embedding"), (old_ends, "embedding and the head")]
)
def test_a_tied_matrix_that_does_not_arrive_everywhere_is_found_and_named(fault: Spoil, where: str, hidden: bool) -> None:
    with pytest.raises(WeightsDiffer, match=f"did not arrive in the {where}, where it is still that of step 1"):
        probed(tiny_model(tie_word_embeddings=True), None, fault, hidden=hidden)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("size", [1e-3, 1e-1])
def test_weights_that_arrive_are_seen_to(size: float, hidden: bool) -> None:
    found = probed(tiny_model(tie_word_embeddings=hidden), None, None, size=size, hidden=hidden)
    assert all(one.fine and one.known and one.allowed < 1e-4 < one.moved for one in found), found
    assert all(one.share is None or abs(one.share - 1.0) < 0.01 for one in found), found


@pytest.mark.parametrize("size", [1e-4, 1e-1])
def test_a_less_exact_engine_is_not_accused_and_what_it_is_too_coarse_for_is_said(size: float) -> None:
    found = probed(tiny_model(), None, None, size=size, dtype=torch.bfloat16, hidden=True)
    assert all(one.fine and one.known == (size > 1e-4) for one in found), found
    assert all(one.seen for one in probed(tiny_model(), None, size=1e-4, dtype=torch.bfloat16)), "its tensors tell"


def test_a_less_exact_engine_that_stays_is_found_once_the_change_is_large_enough() -> None:
    kept: list[Weights] = []

    def first(new: Weights, old: Weights) -> Weights:
        kept.append(old)
        return kept[0]

    assert probed(tiny_model(), first, size=1e-4, dtype=torch.bfloat16, hidden=True)[0].fine
    kept.clear()
    with pytest.raises(WeightsDiffer, match="it still draws with those of step 0"):
        probed(tiny_model(), *[first] * 40, size=1e-3, dtype=torch.bfloat16, hidden=True)


def test_an_update_without_an_effect_is_left_for_later() -> None:
    assert [one.known for one in probed(tiny_model(), None, size=0.0, hidden=True)] == [False]
    assert [one.known for one in probed(tiny_model(), None, size=0.0)] == [True], "its tensors tell"


def test_adapters_arrive_merged() -> None:
    found = probed(tiny_model(), None, None, config=LearnerConfig(lora=LoRA(rank=2)), size=1e-2)
    assert all(one.fine and one.known for one in found), found


def test_every_replica_of_a_server_is_asked_and_one_that_is_down_is_left_out(
    serve: Any,  # noqa: F811
    folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = serve(), serve()
    push = openai.push_weights

    async def not_to_the_second(url: str, *rest: Any) -> None:
        if url != other.url:
            await push(url, *rest)

    async def work(policy: OpenAIPolicy) -> None:
        learner = TorchLearner(tiny_model())
        probe = WeightProbe(policy, learner)
        await policy.load(learner.weights(), 0)
        await probe.begin()
        moved(learner.model, 1, 1e-3)
        await policy.load(learner.weights(), 1)
        assert [(found.fine, found.known) for found in await probe.require()] == [(True, True)] * 2
        moved(learner.model, 2, 1e-3)
        with monkeypatch.context() as patched:
            patched.setattr(openai, "push_weights", not_to_the_second)
            await policy.load(learner.weights(), 2)
        with pytest.raises(WeightsDiffer, match=f"at {other.url} does not .* step 2: it still draws with those of step 1"):
            await probe.require()
        await policy.load(learner.weights(), 2)
        other.kill()
        assert [(found.fine, found.known) for found in await probe.require()] == [(True, True)]

    within(work, one, other, model_folder=folder, weights_folder=tmp_path, attempts=2)


class Deaf(LocalPolicy):
    """Takes no weights of a version, and says that it did."""

    deaf_to: int | None = None

    async def load(self, weights: Weights, version: int) -> None:
        await super().load(self.model.state_dict() if version == self.deaf_to else weights, version)


def test_every_worker_of_a_cluster_is_asked_from_the_beginning() -> None:
    """One that draws with other weights before the first update is named then; its change would be measured from those."""
    workers: list[Deaf] = []

    def make() -> Equipment:
        workers.append(Deaf(tiny_model(), TOKENIZER, context_length=96))
        return Equipment(workers[-1], ScriptedRenderer())

    async def run() -> list[Arrival]:
        learner, policy = TorchLearner(tiny_model()), ClusterPolicy(Engines(InProcess(iter(())), make, 2, HASTY))

        async def update(step: int) -> None:
            moved(learner.model, step, 1e-3)
            await policy.load(learner.weights(), step)

        try:
            await update(0)
            workers[1].deaf_to = 1
            await update(1)
            with pytest.raises(WeightsDiffer, match=r"at place 2 does not .* step 1: they, or a part of them, did not arrive"):
                await WeightProbe(policy, learner).begin()
            await update(2)
            probe = WeightProbe(policy, learner)
            await probe.begin()
            await update(3)
            found = await probe.require()
            workers[1].deaf_to = 4
            await update(4)
            with pytest.raises(WeightsDiffer, match=r"at place 2 does not .* step 4: it still draws with those of step 3"):
                await probe.require()
            return found
        finally:
            await policy.close()

    assert [(one.fine, one.known) for one in asyncio.run(run())] == [(True, True)] * 2
