"""The local policy: what it reports is the model's, whatever shares its batch and its cache."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES
from hypothesis import given, settings
from hypothesis import strategies as st
from model_toys import byte_tokenizer, tiny_model
from rounding import toy_nats

from algorithms.policies import AT_ONCE, Generation, Policy, Sampling
from algorithms.policies.local import LocalPolicy
from arpo_envs.errors import ConfigError

pytestmark = pytest.mark.numeric

TOKENIZER = byte_tokenizer()
F32, F64 = torch.float32, torch.float64
FAMILIES = pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gpt2"])


def policy(
    family: str = "llama", *, slots: int = 64, context_length: int = 256, cache_tokens: int | None = None, **options: Any
) -> LocalPolicy:
    model = tiny_model(family, **({"dtype": F64} | options))
    return LocalPolicy(model, TOKENIZER, slots=slots, context_length=context_length, cache_tokens=cache_tokens)


def contexts(count: int, seed: int = 0, most: int = 60) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, size=rng.integers(1, most)).tolist() for _ in range(count)]


def ask(some: LocalPolicy, *requests: dict[str, Any], closing: bool = True) -> list[Generation]:
    """Asks for all generations at the same time."""

    async def together() -> list[Generation]:
        try:
            return await asyncio.gather(*(some.generate(**request) for request in requests))
        finally:
            if closing:
                await some.close()

    return asyncio.run(together())


def request(context: Sequence[int], tokens: int = 8, *, seed: int = 1, temperature: float = 1.0, offset: int = 0,
            **stops: Any) -> dict[str, Any]:  # fmt: skip
    return {"context": context, "params": Sampling(tokens, temperature, **stops), "seed": seed, "offset": offset}


def close_to(mine: Generation, other: Generation, family: str = "llama", dtype: torch.dtype = F64) -> None:
    assert mine.tokens == other.tokens
    assert mine.logprobs == pytest.approx(other.logprobs, abs=toy_nats(family, dtype))
    assert mine.entropies == pytest.approx(other.entropies, abs=toy_nats(family, dtype))
    assert mine.finish == other.finish


# --- exact numbers -----------------------------------------------------------------------------------------


@pytest.mark.turns("family")
@FAMILIES
@pytest.mark.parametrize("dtype", [F64, F32], ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_logprobs_and_entropies_are_those_of_a_fresh_forward_pass(family: str, temperature: float, dtype: torch.dtype) -> None:
    model = tiny_model(family, dtype=dtype)
    rounded = toy_nats(family, dtype, temperature or 1.0)
    given_contexts = contexts(7)
    requests = [request(c, 10, seed=i, temperature=temperature) for i, c in enumerate(given_contexts)]
    drawn = ask(policy(family, dtype=dtype), *requests)
    for context, out in zip(given_contexts, drawn, strict=True):
        ids = torch.tensor([[*context, *out.tokens]])
        with torch.no_grad():
            logp = torch.log_softmax(model(input_ids=ids).logits[0] / (temperature or 1.0), -1)[len(context) - 1 : -1]
        assert out.logprobs == pytest.approx(logp.gather(1, torch.tensor(out.tokens)[:, None])[:, 0].tolist(), abs=rounded)
        assert out.entropies == pytest.approx((-(logp.exp() * logp).sum(-1)).tolist(), abs=rounded)
        if temperature == 0.0:
            assert (logp.max(-1).values - logp.gather(1, torch.tensor(out.tokens)[:, None])[:, 0]).max() <= rounded


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_eager_attention_gives_the_same_numbers(family: str) -> None:
    wanted = [request(c, 6, seed=i) for i, c in enumerate(contexts(6))]
    eager, fused = (ask(policy(family, dtype=F32, attn_implementation=kind), *wanted) for kind in ("eager", "sdpa"))
    for mine, other in zip(eager, fused, strict=True):
        close_to(mine, other, family, F32)


def test_attention_kernels_that_cannot_take_a_mask_are_refused() -> None:
    model = tiny_model()
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ConfigError, match="sdpa"):
        LocalPolicy(model, TOKENIZER)


def test_reduced_precision_runs() -> None:
    some = LocalPolicy(tiny_model().to(torch.bfloat16), TOKENIZER)
    for out in ask(some, *(request(c, 6, seed=i) for i, c in enumerate(contexts(6)))):
        assert np.isfinite(out.logprobs).all()


def test_tokens_are_drawn_with_the_models_probabilities() -> None:
    some, context, draws = policy(slots=256), [5, 6, 7], 1500
    drawn = ask(some, *(request(context, 1, seed=seed, temperature=0.3) for seed in range(draws)))
    with torch.no_grad():
        p = torch.softmax(tiny_model()(input_ids=torch.tensor([context])).logits[0, -1] / 0.3, -1).numpy()
    counts = np.bincount([out.tokens[0] for out in drawn], minlength=len(p))
    common = p > 0.02
    assert common.sum() >= 3
    assert (np.abs(counts / draws - p)[common] < 5 * np.sqrt(p * (1 - p) / draws)[common]).all()


# --- batches -----------------------------------------------------------------------------------------------


@pytest.mark.turns("family")
@FAMILIES
def test_a_result_does_not_depend_on_who_else_is_there(family: str) -> None:
    mine = request(contexts(1, seed=9)[0], 12, seed=77)
    (alone,) = ask(policy(family), mine)
    others = [request(c, 1 + i % 14, seed=i) for i, c in enumerate(contexts(30))]
    for place in (0, 17, 30):
        among = ask(policy(family), *others[:place], mine, *others[place:])
        close_to(among[place], alone, family)


@FAMILIES
@pytest.mark.parametrize("slots", [4, pytest.param(11, marks=pytest.mark.slow)])
def test_forty_requests_through_few_slots_are_still_right(family: str, slots: int) -> None:
    rng = np.random.default_rng(3)
    prefix = rng.integers(0, 256, size=20).tolist()
    wanted = [
        request(prefix[: rng.integers(1, 21)] + c, int(rng.integers(1, 9)), seed=i) for i, c in enumerate(contexts(40, most=20))
    ]
    among = ask(policy(family, slots=slots), *wanted)
    some = policy(family)
    for out, one in zip(among, wanted, strict=True):
        close_to(out, ask(some, one, closing=False)[0], family)
    asyncio.run(some.close())


def test_requests_may_arrive_while_others_decode() -> None:
    async def staggered(some: LocalPolicy, wanted: list[dict[str, Any]]) -> list[Generation]:
        tasks = []
        for one in wanted:
            tasks.append(asyncio.create_task(some.generate(**one)))
            await asyncio.sleep(0.002)
        done = list(await asyncio.gather(*tasks))
        await some.close()
        return done

    wanted = [request(c, 10, seed=i) for i, c in enumerate(contexts(12))]
    for mine, other in zip(asyncio.run(staggered(policy(), wanted)), ask(policy(), *wanted), strict=True):
        close_to(mine, other)


# --- seams -------------------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_a_probe_and_the_rest_equal_one_call(family: str, temperature: float) -> None:
    context, bound = contexts(1, seed=4)[0], toy_nats(family, temperature=temperature or 1.0)
    (whole,) = ask(policy(family), request(context, 15, seed=5, temperature=temperature))
    for k in (1, 4, 14):
        some = policy(family)
        (probe,) = ask(some, request(context, k, seed=5, temperature=temperature), closing=False)
        assert probe.finish == "length"
        rest_of = request([*context, *probe.tokens], 15 - k, seed=5, temperature=temperature, offset=k)
        (rest,) = ask(some, rest_of)
        assert probe.tokens + rest.tokens == whole.tokens
        assert probe.logprobs + rest.logprobs == pytest.approx(whole.logprobs, abs=bound)
        assert probe.entropies + rest.entropies == pytest.approx(whole.entropies, abs=bound)


class Dictated(LocalPolicy):
    """Decodes like the real one, but writes what it is told."""

    def __init__(self, text: str | Sequence[int], **options: Any) -> None:
        super().__init__(tiny_model(), TOKENIZER, **options)
        self.script = TOKENIZER.encode(text) if isinstance(text, str) else list(text)

    def _pick(self, rows: list[Any], *_: torch.Tensor) -> torch.Tensor:
        return torch.tensor([self.script[row.offset + len(row.tokens)] for row in rows])


def test_stop_strings_are_found_across_token_seams_and_belong_to_the_action() -> None:
    text = "<count>x</count> and more"
    (out,) = ask(Dictated(text), request([1], 20, stop=("</count>", "</answer>")))
    assert TOKENIZER.decode(out.tokens) == "<count>x</count>"
    assert len(out.tokens) < len("<count>x</count>"), "the stop spans merged tokens"
    assert out.finish == "stop"
    (out,) = ask(Dictated(text), request([1], 5, stop=("</count>",)))
    assert (len(out.tokens), out.finish) == (5, "length")


@pytest.mark.parametrize("k", range(1, 8))
def test_stop_strings_are_found_across_the_probes_seam(k: int) -> None:
    some = Dictated("ab</count>cd")
    (probe,) = ask(some, request([1], k, stop=("</count>",)), closing=False)
    if probe.finish == "stop":
        assert TOKENIZER.decode(probe.tokens) == "ab</count>"
        return
    (rest,) = ask(some, request([1, *probe.tokens], 9, offset=k, stop=("</count>",)))
    assert TOKENIZER.decode(probe.tokens + rest.tokens) == "ab</count>"
    assert rest.finish == "stop"


def test_a_stop_string_in_the_context_is_not_the_actions() -> None:
    context = TOKENIZER.encode("before</count>")
    (out,) = ask(Dictated("abcdefgh"), request(context, 6, stop=("</count>",)))
    assert (len(out.tokens), out.finish) == (6, "length")


def test_stop_tokens_end_the_action_and_belong_to_it() -> None:
    end = TOKENIZER.eos_token_id
    (out,) = ask(Dictated([70, 71, end, 72, 73]), request([1], 5, stop_tokens=(end,)))
    assert (out.tokens, out.finish) == ((70, 71, end), "stop")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), st.integers(1, 6))
@settings(max_examples=15, deadline=None)
def test_unicode_survives_tokens_that_split_characters(text: str, k: int) -> None:
    wanted = text + "</count>"
    some = Dictated(wanted + "zz", context_length=200)
    (probe,) = ask(some, request([1], k, stop=("</count>",)), closing=False)
    drawn = probe.tokens
    if probe.finish == "length":
        (rest,) = ask(some, request([1, *probe.tokens], 90, offset=k, stop=("</count>",)))
        drawn += rest.tokens
    assert TOKENIZER.decode(drawn) == wanted


# --- what is computed once ---------------------------------------------------------------------------------


def test_forks_share_their_prefix() -> None:
    some, context = policy(), list(range(40))
    ask(some, *(request(context, 5, seed=i) for i in range(8)))
    # 39 shared tokens once, then per row the last context token and 4 of the 5 drawn
    assert some.prefilled_tokens == 39 + 8 * 5


def test_a_probes_continuation_and_the_next_turn_compute_only_what_is_new() -> None:
    some, context = policy(), list(range(30))
    (probe,) = ask(some, request(context, 4), closing=False)
    assert some.prefilled_tokens == 30 + 3
    (rest,) = ask(some, request([*context, *probe.tokens], 6, offset=4), closing=False)
    assert some.prefilled_tokens == 33 + 1 + 5, "the probe's last token was drawn but not computed"
    turn = [*context, *probe.tokens, *rest.tokens, *range(100, 112)]
    ask(some, request(turn, 3))
    assert some.prefilled_tokens == 39 + 1 + 12 + 2


def test_a_sibling_that_starts_before_the_probe_computes_one_token() -> None:
    some, context = policy(), list(range(30))
    (probe,) = ask(some, request(context, 4), closing=False)
    before = some.prefilled_tokens
    siblings = [request(context, 1, seed=s) for s in (8, 9)]
    ask(some, request([*context, *probe.tokens], 1, offset=4), *siblings)
    assert some.prefilled_tokens == before + 1 + 2


# --- a bounded memory --------------------------------------------------------------------------------------


def test_rows_that_find_no_room_wait_and_draw_what_they_would_have_drawn() -> None:
    """Six rows of up to 60 tokens in a pool of 100: most are sent back in the middle, and go on later."""
    wanted = [request(c, 30, seed=i) for i, c in enumerate(contexts(6, seed=2, most=30))]
    tight = policy(context_length=64, cache_tokens=100)
    among = ask(tight, *wanted)
    for mine, other in zip(among, ask(policy(), *wanted), strict=True):
        close_to(mine, other)
    assert tight._cache.books.budget == 100
    assert not tight._cache.books.busy_S.any()


def test_a_slot_that_is_taken_over_at_the_same_length_reads_its_own_keys() -> None:
    """With one slot, the second sequence decodes at the very place where the first one ended."""
    one, other = ((row * 40)[:length] for row, length in zip(contexts(2, seed=6, most=40), (20, 23), strict=True))
    some = policy(slots=1)
    assert AT_ONCE.of(some) == 1
    ask(some, request(one, 4, seed=1), closing=False)
    (mine,) = ask(some, request(other, 6, seed=2))
    close_to(mine, ask(policy(), request(other, 6, seed=2))[0])


def test_a_memory_smaller_than_one_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="cache_tokens=63 cannot hold one context of 64"):
        policy(context_length=64, cache_tokens=63)


def test_an_engine_may_run_in_another_precision_than_the_model() -> None:
    some = LocalPolicy(tiny_model(), TOKENIZER, dtype=torch.bfloat16)
    (out,) = ask(some, request([1, 2, 3], 6), closing=False)
    asyncio.run(some.load(tiny_model(seed=5).state_dict(), 1))
    (after,) = ask(some, request([1, 2, 3], 6))
    assert some.model.dtype is torch.bfloat16
    assert out.logprobs != after.logprobs


# --- weights -----------------------------------------------------------------------------------------------


def test_loading_forgets_keys_and_changes_version_and_numbers() -> None:
    some, context = policy(), list(range(20))
    other = tiny_model(seed=5, dtype=F64)
    (before,) = ask(some, request(context, 6), closing=False)
    asyncio.run(some.load(other.state_dict(), 3))
    (after,) = ask(some, request(context, 6))
    (wanted,) = ask(LocalPolicy(other, TOKENIZER), request(context, 6))
    close_to(after, wanted)
    assert (before.version, after.version, some.version) == (0, 3, 3)
    assert before.logprobs != after.logprobs


def test_training_the_model_elsewhere_changes_nothing_until_it_is_loaded() -> None:
    model, context = tiny_model(dtype=F64), list(range(20))
    some = LocalPolicy(model, TOKENIZER)
    (before,) = ask(some, request(context, 6), closing=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    (after,) = ask(some, request(context, 6))
    close_to(after, before)


def test_it_is_a_policy_and_knows_its_sizes() -> None:
    some = policy(context_length=10_000)
    assert isinstance(some, Policy)
    assert some.vocabulary_size == 265
    assert some.context_length == 512, "the model's own limit"
    asyncio.run(some.close())


# --- mistakes and failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (request([], 5), "Nothing to do: 0 tokens"),
        (request([1], 0), "max_tokens=0"),
        (request([1] * 250, 7), "exceed the limit of 256"),
    ],
)
def test_requests_that_cannot_be_served_are_refused(bad: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ask(policy(), bad)


def test_a_request_may_fill_the_context_to_the_last_token() -> None:
    (out,) = ask(policy(), request([1] * 250, 6))
    assert len(out.tokens) == 6


@pytest.mark.parametrize(
    ("name", "reason"), [("mamba", "layers of the kind"), ("rwkv", "keeps no keys"), ("bloom", "raises ValueError")]
)
def test_models_this_engine_has_no_cache_for_are_refused_by_name(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot run {name}.*{reason}.*--engine vllm"):
        LocalPolicy(ARCHITECTURES[name](), TOKENIZER)


def test_cancelling_one_request_frees_its_row_and_the_others_go_on() -> None:
    wanted = [request(c, 40, seed=i) for i, c in enumerate(contexts(6))]

    async def some_cancelled(some: LocalPolicy) -> list[Generation]:
        tasks = [asyncio.create_task(some.generate(**one)) for one in wanted]
        await asyncio.sleep(0.01)
        for task in tasks[::2]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(out, asyncio.CancelledError) for out in done] == [True, False] * 3
        while some._decoding or some._waiting:
            await asyncio.sleep(0.001)
        assert not some._cache.books.busy_S.any(), "all rows are free again"
        again = await some.generate(**wanted[0])
        await some.load(tiny_model(dtype=F64).state_dict(), 1)
        await some.close()
        return [out for out in (*done[1::2], again) if isinstance(out, Generation)]

    survivors = asyncio.run(some_cancelled(policy(slots=4)))
    for mine, other in zip(survivors, ask(policy(), *wanted[1::2], wanted[0]), strict=True):
        close_to(mine, other)


def test_many_requests_cancelled_at_any_time_never_disturb_the_others() -> None:
    wanted = [request(c, 6, seed=i) for i, c in enumerate(contexts(40, most=12))]
    reference = ask(policy(), *wanted)

    async def storm(some: LocalPolicy, seed: int) -> None:
        rng = np.random.default_rng(seed)
        tasks = []
        for one in wanted:
            tasks.append(asyncio.create_task(some.generate(**one)))
            await asyncio.sleep(float(rng.random()) * 0.002)
            if rng.random() < 0.4:
                tasks[int(rng.integers(len(tasks)))].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        await some.close()
        for mine, other in zip(done, reference, strict=True):
            if isinstance(mine, Generation):
                close_to(mine, other)
            else:
                assert isinstance(mine, asyncio.CancelledError)

    for seed in range(3):
        asyncio.run(storm(policy(slots=3), seed))


def test_a_failing_backend_fails_those_who_wait_and_recovers() -> None:
    class Fragile(LocalPolicy):
        broken = True

        def _draw(self, rows: list[Any]) -> list[Any]:
            if self.broken:
                raise RuntimeError("out of memory")
            return super()._draw(rows)

    some = Fragile(tiny_model(dtype=F64), TOKENIZER, slots=2)

    async def twice() -> tuple[list[Any], Generation]:
        failed = await asyncio.gather(*(some.generate(**request(c, 4)) for c in contexts(5)), return_exceptions=True)
        some.broken = False
        after = await some.generate(**request([1, 2, 3], 4))
        await some.close()
        return failed, after

    failed, after = asyncio.run(twice())
    assert all(isinstance(error, RuntimeError) for error in failed)
    close_to(after, ask(policy(), request([1, 2, 3], 4))[0])


def test_closing_fails_those_who_still_wait() -> None:
    async def closed_early() -> list[Any]:
        some = policy(slots=2)
        tasks = [asyncio.create_task(some.generate(**request(c, 60))) for c in contexts(6)]
        await asyncio.sleep(0.01)
        await some.close()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10.0)

    assert all(isinstance(error, Exception) for error in asyncio.run(closed_early()))
