"""The policy on vLLM's engine in process, against the real engine: the conformance kit, and what only this policy has."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from model_toys import byte_tokenizer, tiny_model
from rounding import nats, slack
from vllm_toys import MARKS, SHAPE

from algorithms.policies import AT_ONCE, Generation, Sampling
from algorithms.policies.vllm import VLLMPolicy
from algorithms.testing import Law, Promises, check_policy
from arpo_envs import ConfigError

pytestmark = MARKS

TOKENIZER = byte_tokenizer()
QUICK = {"enforce_eager": True}
"""No compilation, which takes longer than these tests."""


def encode(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False))


def decode(ids: Any) -> str:
    return str(TOKENIZER.decode(list(ids), clean_up_tokenization_spaces=False))


def logprobs(model: Any, context: list[int], drawn: Generation) -> torch.Tensor:
    """Returns the model's log-probabilities [T, V] of what may follow at each drawn token."""
    ids = torch.tensor([[*context, *drawn.tokens]])
    with torch.inference_mode():
        return model(input_ids=ids).logits[0, len(context) - 1 : -1].log_softmax(-1)


def worst(model: Any, context: list[int], drawn: Generation) -> float:
    """Returns the largest difference between reported log-probabilities and the model's, nats."""
    chosen = logprobs(model, context, drawn).gather(1, torch.tensor(drawn.tokens)[:, None])[:, 0]
    return float((chosen - torch.tensor(drawn.logprobs)).abs().max())


def test_the_policy_conforms(save_tiny: Callable[..., tuple[Path, Any]]) -> None:
    """With a tied model; `test_vllm_server` has one whose matrices are apart."""
    folder, model = save_tiny("qwen2", tie_word_embeddings=True)
    other = tiny_model("qwen2", seed=5, tie_word_embeddings=True, **SHAPE)
    report = check_policy(
        lambda: VLLMPolicy(folder, TOKENIZER, context_length=128, cache_bytes=1 << 28, top_logprobs=265, options=QUICK),
        encode=encode,
        decode=decode,
        reference=model,
        other=other.state_dict(),
        other_reference=other,
        promises=Promises(split=False, batch=False, **slack(nats(model))),
    )
    assert set(report.passed) | set(report.skipped) == set(Law), str(report)
    assert set(report.skipped) <= {Law.SPLIT, Law.BATCH, Law.BITS, Law.SIBLINGS}, str(report)


def test_what_only_this_policy_does(save_tiny: Callable[..., tuple[Path, Any]]) -> None:
    folder, model = save_tiny("llama")

    async def run() -> None:
        policy = VLLMPolicy(folder, TOKENIZER, context_length=512, cache_bytes=1 << 28, options=QUICK)
        try:
            await _a_terminals_signals_do_not_reach_the_engine(policy)
            await _entropies_lie_within_their_bounds(policy, model)
            await _a_fork_computes_at_most_one_block_again(policy)
            await _a_continuation_does_not_repeat_the_draws_of_its_probe(policy)
            await _cancelling_aborts(policy)
            await _weights_wait_for_nobody_and_nobody_for_old_weights(policy, model)
            await _a_mistake_is_refused_and_the_engine_lives(policy, model)
        finally:
            await _closing_fails_what_is_under_way(policy)

    asyncio.run(run())


def _engine() -> list[psutil.Process]:
    """Returns the processes of vLLM."""
    return [child for child in psutil.Process().children(recursive=True) if "vllm" in child.name().lower()]


async def _a_terminals_signals_do_not_reach_the_engine(policy: VLLMPolicy) -> None:
    engine = _engine()
    assert engine, [child.name() for child in psutil.Process().children(recursive=True)]
    for process in engine:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGHUP)
    for seed in range(20):
        await policy.generate([1, 2, 3], Sampling(2), seed=seed)


async def _entropies_lie_within_their_bounds(policy: VLLMPolicy, model: Any) -> None:
    context = encode("Which city lies on the river?")
    drawn = await policy.generate(context, Sampling(16), seed=3)
    logp_TV = logprobs(model, context, drawn)
    entropy_T = -(logp_TV.exp() * logp_TV).sum(-1)
    error = float((entropy_T - torch.tensor(drawn.entropies)).abs().max())
    assert 1e-3 < policy.entropy_error < 1.0
    assert error <= policy.entropy_error
    assert AT_ONCE.of(policy) == policy.engine.vllm_config.scheduler_config.max_num_seqs > 0


async def _a_fork_computes_at_most_one_block_again(policy: VLLMPolicy) -> None:
    context = encode("The river passes many cities; name one of them. " * 6)
    for seed in range(4):
        before = policy.prefilled_tokens
        await policy.generate([*context, seed], Sampling(5), seed=seed)
        computed = policy.prefilled_tokens - before
        assert computed == (len(context) + 1 if seed == 0 else (len(context) + 1) % 32 or 32), seed


async def _a_continuation_does_not_repeat_the_draws_of_its_probe(policy: VLLMPolicy) -> None:
    context = encode("Same seed, and the same context each time.")
    first = await policy.generate(context, Sampling(12), seed=9)
    again = await policy.generate(context, Sampling(12), seed=9, offset=4, tail=decode(context[-4:]))
    assert first.tokens != again.tokens


async def _cancelling_aborts(policy: VLLMPolicy) -> None:
    core = policy.engine.engine_core
    send = core.add_request_async

    async def crowded(request: Any) -> None:
        await send(request)
        await asyncio.sleep(60.0)

    for way in (send, crowded):  # while the engine draws, and while the request is on its way there
        core.add_request_async = way
        task = asyncio.create_task(policy.generate(encode("Go on."), Sampling(500), seed=1))
        while not policy.engine.get_num_unfinished_requests():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert policy.engine.get_num_unfinished_requests() == 0
    core.add_request_async = send


async def _weights_wait_for_nobody_and_nobody_for_old_weights(policy: VLLMPolicy, model: Any) -> None:
    context = encode("What changes, and when?")
    other = tiny_model("llama", seed=6, **SHAPE)
    going = asyncio.create_task(policy.generate(context, Sampling(200), seed=1))
    while not policy.engine.get_num_unfinished_requests():
        await asyncio.sleep(0.01)
    with pytest.raises(RuntimeError, match="await them first"):
        await policy.load(other.state_dict(), 1)
    old = await going
    assert (old.version, worst(model, context, old) <= nats(model)) == (0, True)
    loading = asyncio.create_task(policy.load(other.state_dict(), 1))
    await asyncio.sleep(0)
    new = await policy.generate(context, Sampling(20), seed=1)  # waits for the weights
    await loading
    assert (new.version, worst(other, context, new) <= nats(other)) == (1, True)
    assert worst(model, context, new) > 0.1


async def _a_mistake_is_refused_and_the_engine_lives(policy: VLLMPolicy, model: Any) -> None:
    with pytest.raises(ConfigError, match="0 to 264"):
        await policy.generate([1, 265], Sampling(2), seed=1)
    with pytest.raises(ConfigError, match="not in"):
        await policy.load({"model.strange.weight": torch.zeros(2)}, 2)
    await policy.sleep()  # not colocated: nothing happens
    await policy.generate([1, 2], Sampling(2), seed=1)
    assert policy.version == 1


async def _closing_fails_what_is_under_way(policy: VLLMPolicy) -> None:
    going = [asyncio.create_task(policy.generate(encode("Go on."), Sampling(500), seed=1))]
    while not policy.engine.get_num_unfinished_requests():
        await asyncio.sleep(0.01)
    for seed in range(40):  # each is one turn of the event loop further on its way to the engine than the next one
        going.append(asyncio.create_task(policy.generate(encode("Go on."), Sampling(500), seed=seed)))
        await asyncio.sleep(0)
    engine, closing = _engine(), asyncio.create_task(policy.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert policy.engine is None
    assert psutil.wait_procs(engine, timeout=60)[1] == []
    async with asyncio.timeout(60):
        ended = await asyncio.gather(*going, return_exceptions=True)
    assert {str(error) for error in ended} == {"The policy was closed."}, ended
    with pytest.raises(RuntimeError, match="closed"):
        await policy.generate([1, 2], Sampling(2), seed=1)
    with pytest.raises(RuntimeError, match="closed"):
        await policy.load({}, 2)
    await policy.close()


def test_mistakes_are_found_before_the_engine_starts(save_tiny: Callable[..., tuple[Path, Any]], tmp_path: Path) -> None:
    folder, _ = save_tiny("llama")
    with pytest.raises(ConfigError, match="cannot sleep on cpu"):
        VLLMPolicy(folder, TOKENIZER, colocated=True)
    with pytest.raises(ConfigError, match="strange"):
        VLLMPolicy(folder, TOKENIZER, options={"strange": 1})
    with pytest.raises(ConfigError, match="it has no config"):
        VLLMPolicy(tmp_path, TOKENIZER)
