"""One probability: every architecture agrees in every way or is refused by name, and faults planted in an engine are found."""

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ARCHITECTURES
from model_toys import byte_tokenizer, tiny_model
from turns import some_slow

from algorithms.learner import LearnerConfig, LoRA, TorchLearner
from algorithms.models import agreement, own
from algorithms.models.agreement import Agreement
from algorithms.models.attention import Reach
from algorithms.packing import packable
from algorithms.policies.local import LocalPolicy
from arpo_envs import ConfigError

pytestmark = pytest.mark.numeric

TOKENIZER = byte_tokenizer()
CONTEXT = 96
NO_CACHE = {
    "bloom": "raises ValueError",
    "falcon-alibi": "raises ValueError",
    "rwkv": "keeps no keys and values",
    **dict.fromkeys(("mamba", "mamba2", "jamba", "bamba", "zamba2", "qwen3-next", "recurrent-gemma"), "'linear_attention'"),
    "lfm2": "'conv'",
    "falcon-h1": "'hybrid'",
}
"""Architectures that the local engine refuses when it is made, and why."""
OFF = {
    "phi3-longrope": ("itself", 48),  # other factors beyond 48 tokens
    "llama4-text": ("alone", 32),  # its attention's temperature counts columns, not positions
    "gpt-neo": ("neighbours", 0),  # its local layers hide columns, not positions
}
"""Architectures that the comparison refuses: where it finds them off, and up to how many tokens they agree (0: not said)."""
FLAT = {"mpt": "differ by"}
"""Architectures that are trained, on flat rows."""


def compared(model: Any, spoil: Callable[[Any], None] = lambda policy: None, **options: Any) -> Agreement:
    async def run() -> Agreement:
        policy = LocalPolicy(model, TOKENIZER, context_length=CONTEXT, slots=16)
        spoil(policy)
        try:
            return await agreement.compare(policy, TorchLearner(model, **options))
        finally:
            await policy.close()

    return asyncio.run(run())


KINDS = {
    "llama", "llama-dynamic-rope", "mistral-window", "qwen2-window", "qwen3-moe", "gemma3", "gemma3n-text", "gpt-oss", "gpt2",
    "opt-dropout", "mpt", "falcon-rope", "deepseek-v3", "cohere2", "xglm"}  # fmt: skip
"""One architecture of each kind: of positions, of masks, of experts, of what follows the last layer. The others are slow."""
ZOO = some_slow([name for name in ARCHITECTURES if name not in NO_CACHE | OFF], KINDS)


@pytest.mark.parametrize("name", ZOO)
def test_every_other_architecture_agrees_in_every_way(name: str) -> None:
    found = compared(ARCHITECTURES[name]())
    assert found.refusal is None
    assert [one.way.name for one in found.differences] == ["itself", "rows", "alone", "forked", "neighbours", "loaded"]
    assert max(one.allowed for one in found.differences) < 1e-3, "rounding is small, so what agrees does so closely"
    assert (found.unpacked or "").startswith("log-probabilities") == (name in FLAT)


@pytest.mark.parametrize("name", NO_CACHE)
def test_an_architecture_without_keys_and_values_is_refused_when_the_engine_is_made(name: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot run {name.partition('-')[0]}.*{NO_CACHE[name]}.*--engine vllm"):
        LocalPolicy(ARCHITECTURES[name](), TOKENIZER, context_length=CONTEXT)


@pytest.mark.parametrize("name", OFF)
def test_an_architecture_that_is_off_is_refused_with_where_and_what_to_do(name: str) -> None:
    way, agrees_up_to = OFF[name]
    found = compared(ARCHITECTURES[name]())
    assert found.differences[-1].way.name == way
    assert found.differences[-1].nats > 0.01
    said = str(found.refusal)
    assert "nats off" in said
    assert "train another model" in said
    if agrees_up_to:
        assert found.agrees_up_to == agrees_up_to
        assert f"--context-length {agrees_up_to}" in said


def test_the_advice_is_true() -> None:
    model = ARCHITECTURES["phi3-longrope"]()

    async def run(length: int) -> Agreement:
        policy = LocalPolicy(model, TOKENIZER, context_length=length, slots=16)
        try:
            return await agreement.compare(policy, TorchLearner(model))
        finally:
            await policy.close()

    assert asyncio.run(run(48)).refusal is None
    assert asyncio.run(run(49)).refusal is not None


# --- planted faults ----------------------------------------------------------------------------------------------


def stale(policy: Any) -> None:
    policy._cache.forget = lambda: None


def blind_to_windows(policy: Any) -> None:
    policy._cache._reach_of = {"": Reach()}


def narrow(policy: Any) -> None:
    policy._cache._reach_of = {"": Reach(window=31)}


def _spoiled_inputs(policy: Any, spoil: Callable[[dict[str, Any], int], None]) -> None:
    real = policy._cache.begin

    def begin(slots: Any, *arguments: Any) -> Any:
        inputs = real(slots, *arguments)
        spoil(inputs, len(slots))
        return inputs

    policy._cache.begin = begin


def sees_padding(policy: Any) -> None:
    _spoiled_inputs(policy, lambda inputs, rows: inputs["attention_mask"].zero_() if rows > 1 else None)


def off_by_one(policy: Any) -> None:
    def spoil(inputs: dict[str, Any], rows: int) -> None:
        inputs["position_ids"] += (inputs["position_ids"][:, :1] > 0).long()  # what is continued only

    _spoiled_inputs(policy, spoil)


def ignores_a_layer(policy: Any) -> None:
    real = policy.model.load_state_dict
    policy.model.load_state_dict = lambda weights: real(
        {name: tensor for name, tensor in weights.items() if "embed_tokens" not in name}, strict=False
    )


def shares_too_much(policy: Any) -> None:
    """A fork goes on from one token more of its parent than they have in common."""
    real = policy._cache.books._common
    policy._cache.books._common = lambda tokens: (real(tokens) + (real(tokens) > 20)).clip(max=len(tokens))


FAULTS: list[tuple[Callable[[Any], None], str, str]] = [
    (stale, "llama", "loaded"),
    (ignores_a_layer, "llama", "loaded"),
    (blind_to_windows, "mistral-window", "alone"),
    (blind_to_windows, "qwen3-moe-window", "alone"),
    (narrow, "llama", "alone"),
    (sees_padding, "llama", "neighbours"),
    (sees_padding, "gpt2", "neighbours"),
    (off_by_one, "llama", "alone"),
    (off_by_one, "gpt2", "alone"),
    (shares_too_much, "llama", "forked"),
]


@pytest.mark.turns("dtype")
@pytest.mark.parametrize(("fault", "name", "way"), FAULTS, ids=[f"{fault.__name__}-{name}" for fault, name, _ in FAULTS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_fault_planted_in_the_engine_is_found(fault: Callable[[Any], None], name: str, way: str, dtype: torch.dtype) -> None:
    model = ARCHITECTURES[name]().to(dtype)
    found = compared(model, fault, config=LearnerConfig(learning_rate=1e-2))
    if dtype == torch.float32:
        assert found.differences[-1].way.name == way
    assert found.refusal is not None


def test_a_fault_in_the_learner_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(model: Any, learner_of: Callable[[Any], TorchLearner] = TorchLearner) -> TorchLearner:
        learner = learner_of(model)
        learner.model.train()  # dropout
        return learner

    monkeypatch.setattr(own, "logprobs", _in_eval_mode(own.logprobs))
    monkeypatch.setattr(f"{__name__}.TorchLearner", made)
    found = compared(ARCHITECTURES["opt-dropout"]())
    assert found.differences[-1].way.name == "rows"
    assert found.refusal is not None


def _in_eval_mode(logprobs: Any) -> Any:
    @functools.wraps(logprobs)
    def wrapped(model: Any, *arguments: Any) -> Any:
        training = model.training
        model.eval()
        try:
            return logprobs(model, *arguments)
        finally:
            model.train(training)

    return wrapped


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_adapters_agree_and_everything_is_as_it_was_afterwards(temperature: float) -> None:
    model = tiny_model("llama", tie_word_embeddings=True)

    async def run() -> None:
        policy = LocalPolicy(model, TOKENIZER, context_length=CONTEXT, slots=16)
        learner = TorchLearner(model, LearnerConfig(lora=LoRA(rank=2)), temperature=temperature)
        before = {name: tensor.clone() for name, tensor in learner.weights().items()}
        drawing = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
        await agreement.require_agreement(policy, learner)
        assert all(torch.equal(tensor, before[name]) for name, tensor in learner.weights().items())
        assert all(torch.equal(tensor, drawing[name]) for name, tensor in policy.model.state_dict().items())
        assert policy.version == 0
        await policy.close()

    asyncio.run(run())


def test_an_engine_that_lost_the_adapters_is_found() -> None:
    model = tiny_model("llama")

    async def run() -> Agreement:
        policy = LocalPolicy(model, TOKENIZER, context_length=CONTEXT, slots=16)
        learner = TorchLearner(model, LearnerConfig(lora=LoRA(rank=2)))
        learner.weights = lambda: {  # type: ignore[method-assign]
            name.replace(".base_layer.", "."): tensor
            for name, tensor in learner.model.state_dict().items()
            if "lora_" not in name
        }
        try:
            return await agreement.compare(policy, learner)
        finally:
            await policy.close()

    assert asyncio.run(run()).differences[-1].way.name == "loaded"


def test_products_less_exact_than_their_precision_says_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """As TF32 does: 10 bits of both factors."""

    def short(tensor: torch.Tensor) -> torch.Tensor:
        return ((tensor.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)

    linear, matmul = torch.nn.functional.linear, torch.Tensor.__matmul__

    def product(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return matmul(short(one), short(other)) if one.dtype == torch.float32 else matmul(one, other)

    monkeypatch.setattr(torch.nn.functional, "linear", lambda x, weight, bias=None: linear(short(x), short(weight), bias))
    monkeypatch.setattr(torch.Tensor, "__matmul__", product)
    assert 2**-13 < own.eps(torch.float32, torch.device("cpu")) < 2**-10
    for name in ("llama", "qwen2", "olmo"):
        model = ARCHITECTURES[name]()
        assert compared(model).refusal is None
        assert packable.why_not_packable(model) is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_a_rounding_is_at_least_that_of_the_numbers_and_not_much_more(dtype: torch.dtype) -> None:
    assert 1.0 <= own.eps(dtype, torch.device("cpu")) / torch.finfo(dtype).eps < 8.0


def test_the_models_own_forward_pass_does_without_flex_attention() -> None:
    model, tokens = tiny_model("llama"), list(range(20))
    usual = own.logprobs(model, tokens, range(1, 20))
    model.set_attn_implementation("flex_attention")
    assert torch.equal(own.logprobs(model, tokens, range(1, 20)), usual)
    assert model.config._attn_implementation == "flex_attention"


def test_flex_attention_that_is_off_is_to_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(self: Any, trees: Any) -> Any:
        raise RuntimeError("no kernel for this\n  and a page of its innards")

    monkeypatch.setattr(LearnerConfig, "require_device", lambda self, device: None)
    monkeypatch.setattr(TorchLearner, "logprobs", raises)
    said = str(compared(tiny_model("llama"), config=LearnerConfig(attention="flex_attention")).refusal)
    assert "it raises RuntimeError: no kernel for this. You can leave out --attention flex_attention; or train another" in said


def test_a_tolerance_of_the_users_own_counts_for_the_engine_alone() -> None:
    async def run(tolerance: float) -> Agreement:
        model = tiny_model("llama")
        policy = LocalPolicy(model, TOKENIZER, context_length=CONTEXT, slots=16, dtype=torch.bfloat16)
        policy.dtype = torch.float32  # so it says
        try:
            return await agreement.compare(policy, TorchLearner(model), engine_tolerance=tolerance)
        finally:
            await policy.close()

    assert asyncio.run(run(1e-4)).differences[-1].way.name == "alone"
    assert asyncio.run(run(3.0)).refusal is None


def measured(model: Any, spoil: Callable[[Any], None] = lambda policy: None) -> Agreement:
    async def run() -> Agreement:
        policy = LocalPolicy(model, TOKENIZER, context_length=CONTEXT, slots=16)
        spoil(policy)
        try:
            return await agreement.require_engine(policy, policy.model)
        finally:
            await policy.close()

    return asyncio.run(run())


def test_what_is_only_evaluated_is_compared_with_the_model_itself() -> None:
    found = measured(tiny_model("llama"))
    assert [one.way.name for one in found.differences] == ["alone", "forked", "neighbours"]


@pytest.mark.parametrize(("fault", "name", "way"), [one for one in FAULTS if one[2] != "loaded"][::2])
def test_an_evaluation_finds_the_faults_too(fault: Callable[[Any], None], name: str, way: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be evaluated here: .*(draw with another engine|evaluate another model)"):
        measured(ARCHITECTURES[name](), fault)


def test_a_model_that_says_the_same_of_everything_agrees() -> None:
    model = tiny_model("llama")
    torch.nn.init.zeros_(model.lm_head.weight)
    found = compared(model)
    assert found.refusal is None
    assert "agree within 0 nats" in str(found)


def test_a_context_too_short_for_an_episode_is_refused() -> None:
    async def run() -> None:
        model = tiny_model("llama")
        policy = LocalPolicy(model, TOKENIZER, context_length=16)
        try:
            await agreement.compare(policy, TorchLearner(model))
        finally:
            await policy.close()

    with pytest.raises(ConfigError, match="A context of 16 tokens"):
        asyncio.run(run())


def test_a_page_lists_what_is_supported_and_what_is_refused() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:] for line in page.splitlines() if line.startswith("| `")]
    verdicts = {row[0].strip().strip("`"): row[1].strip().partition(" ")[0] for row in rows}
    refused = NO_CACHE | OFF
    assert verdicts == {name: "refused" if name in refused else "flat" if name in FLAT else "packed" for name in ARCHITECTURES}
