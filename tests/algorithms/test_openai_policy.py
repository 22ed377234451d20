"""The policy behind a URL, against a server on loopback: the contract, and servers that die, hang or talk nonsense."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from model_toys import byte_tokenizer, tiny_model
from rollout_toys import CountTool, Plan
from rounding import nats, slack, toy_nats
from server_toys import LoopbackServer, SleepsAtOnce
from test_trainer import Lenient

from algorithms.branching import NoBranching
from algorithms.checkpoint import save_policy
from algorithms.policies import AT_ONCE, Generation, Sampling, dispatch
from algorithms.policies.openai import OpenAIPolicy
from algorithms.policies.served import ServerFault
from algorithms.rendering import TextRenderer
from algorithms.rollout import RolloutError, collect
from algorithms.rollout.run import Limits, Start
from algorithms.testing import Law, Promises, check_policy
from algorithms.tree import RolloutTree, Status
from arpo_envs.errors import ConfigError

TOKENIZER = byte_tokenizer()
SEED = 3
CONTEXT = [ord(c) - 30 for c in "Which city lies on the river?"]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    save_policy(path, tiny_model(), TOKENIZER)
    return path


@pytest.fixture
def serve() -> Iterator[Callable[..., LoopbackServer]]:
    servers: list[LoopbackServer] = []

    def start(**options: Any) -> LoopbackServer:
        servers.append(LoopbackServer(tiny_model(), TOKENIZER, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def policy_of(*servers: LoopbackServer, **options: Any) -> OpenAIPolicy:
    return OpenAIPolicy([server.url for server in servers], TOKENIZER, vocabulary_size=265, **options)


def within(work: Callable[[OpenAIPolicy], Awaitable[Any]], *servers: LoopbackServer, **options: Any) -> Any:
    """Runs something with a policy of these servers, and closes it."""

    async def run() -> Any:
        policy = policy_of(*servers, **options)
        try:
            return await work(policy)
        finally:
            await policy.close()

    return asyncio.run(run())


def ask(*servers: LoopbackServer, count: int = 1, tokens: int = 8, **options: Any) -> list[Generation]:
    """Makes requests that differ by their seeds only, all at once."""

    async def work(policy: OpenAIPolicy) -> list[Generation]:
        params = Sampling(tokens)
        return list(await asyncio.gather(*(policy.generate(CONTEXT, params, seed=SEED + i) for i in range(count))))

    return list(within(work, *servers, **options))


# --- the contract -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_policy_conforms(serve: Any, folder: Path, tmp_path: Path) -> None:
    other = tiny_model(seed=5)
    server = serve()
    report = check_policy(
        lambda: policy_of(server, model_folder=folder, weights_folder=tmp_path / "weights", top_logprobs=265),
        encode=lambda text: TOKENIZER.encode(text, add_special_tokens=False),
        decode=lambda ids: str(TOKENIZER.decode(list(ids), clean_up_tokenization_spaces=False)),
        reference=tiny_model(),
        other=other.state_dict(),
        other_reference=other,
        promises=Promises(split=False, **slack(toy_nats(dtype=torch.float32))),
        capacity=8,
    )
    assert set(report.skipped) == {Law.SPLIT, Law.BITS}, str(report)
    assert list((tmp_path / "weights").iterdir()) == [], "closing removes the weights that were on their way"


def test_everything_that_shapes_the_distribution_is_sent(serve: Any) -> None:
    server = serve()
    ask(server, api_key="secret")
    (sent,) = server.requests
    wanted = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "temperature": 1.0, "ignore_eos": True}
    assert wanted.items() <= sent.items()
    assert sent["presence_penalty"] == sent["frequency_penalty"] == 0.0
    assert sent["prompt"] == CONTEXT
    assert server.keys == {"bearer secret"}


def test_top_logprobs_bound_the_entropy(serve: Any) -> None:
    exact, rough = (ask(serve(), top_logprobs=k)[0] for k in (265, 20))
    assert exact.tokens == rough.tokens
    assert exact.logprobs == pytest.approx(rough.logprobs)
    differences = [abs(one - other) for one, other in zip(exact.entropies, rough.entropies, strict=True)]
    assert 0.0 < max(differences) < 0.5


def test_a_stop_string_across_the_seam_ends_the_request_on_the_server_too(serve: Any) -> None:
    server = serve(delay=0.03)

    async def cut_short(policy: OpenAIPolicy, seed: int) -> bool:
        """Whether this seed's probe and continuation are plain text, so that a stop string could be made of them."""
        probe = await policy.generate(CONTEXT, Sampling(4), seed=seed)
        tail = TOKENIZER.decode(list(probe.tokens))
        longer, more = [*CONTEXT, *probe.tokens], {"seed": seed, "offset": 4, "tail": tail}
        free = await policy.generate(longer, Sampling(20), **more)
        stop = tail[-2:] + TOKENIZER.decode(list(free.tokens[:3]))[:1]
        if "\ufffd" in stop or len(stop) != 3 or stop in tail:
            return False
        cut = await policy.generate(longer, Sampling(20, stop=(stop,)), **more)
        assert cut.finish == "stop"
        assert cut.tokens == free.tokens[: len(cut.tokens)]
        assert len(cut.tokens) <= 3
        return True

    async def work(policy: OpenAIPolicy) -> None:
        assert any([await cut_short(policy, seed) for seed in range(12)])

    within(work, server)
    streamed = [request for request in server.requests if request["stream"]]
    assert {request["max_tokens"] for request in streamed} == {20}
    assert all(request["stop"] for request in streamed), "only a request whose probe may have begun one is streamed"
    until = time.monotonic() + 10.0
    while server.abandoned < len(streamed) and time.monotonic() < until:
        time.sleep(0.01)  # the server notices a little later
    assert server.abandoned == len(streamed)


def test_a_cancelled_request_is_abandoned(serve: Any) -> None:
    server = serve(delay=30.0)

    async def work(policy: OpenAIPolicy) -> None:
        drawing = asyncio.create_task(policy.generate(CONTEXT, Sampling(4), seed=1))
        while not server.busy:
            await asyncio.sleep(0.01)
        drawing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drawing
        while not server.abandoned:
            await asyncio.sleep(0.01)
        server.delay = 0.0
        assert await policy.generate(CONTEXT, Sampling(4), seed=1)
        while server.busy:  # an answer may arrive before the server has finished with it
            await asyncio.sleep(0.01)

    within(work, server)


def test_concurrency_is_bounded_for_each_replica(serve: Any) -> None:
    one, other = serve(delay=0.02), serve(delay=0.02)
    assert len(ask(one, other, count=24, concurrency=3)) == 24
    assert {one.most_busy, other.most_busy} == {3}, "what is too much for the home of a prompt goes elsewhere"

    async def at_once(policy: OpenAIPolicy) -> int:
        return AT_ONCE.of(policy)

    assert within(at_once, one, other, concurrency=3) == 6


# --- faults -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["500", "503", "429", "503/0", "cut", "nonsense", "empty", "hang"])
def test_a_fault_costs_time_and_nothing_else(serve: Any, fault: str) -> None:
    server = serve()
    (wanted,) = ask(server)
    server.faults.append(fault)
    (drawn,) = ask(server, timeout=1.0 if fault == "hang" else 300.0)
    assert drawn.tokens == wanted.tokens
    assert len(server.requests) == 3


def test_a_request_is_tried_so_often_and_then_fails_with_the_reason(serve: Any) -> None:
    server = serve()
    server.always = "500"
    with pytest.raises(ServerFault, match=r"answers 500: it broke"):
        ask(server, attempts=2)
    assert len(server.requests) == 2


def test_a_server_that_asks_for_a_pause_gets_it(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SleepsAtOnce()
    monkeypatch.setattr(dispatch, "asyncio", clock)
    server = serve()
    server.faults.append("429/50")
    ask(server)
    assert clock.slept[0] == 50.0
    assert len(server.requests) == 2


def test_a_busy_replica_is_relieved_by_another(serve: Any) -> None:
    one, other = serve(), serve()
    one.always = "429/30"
    assert len(ask(one, other, count=4)) == 4
    assert len(other.requests) == 4
    other.always, one.always = "429/30", None
    assert len(ask(one, other, count=4)) == 4


def test_a_refusal_is_not_repeated_and_says_what_the_server_says(serve: Any) -> None:
    server = serve()
    server.always = "400"
    with pytest.raises(ConfigError, match="answers 400: it broke"):
        ask(server)
    assert len(server.requests) == 1


def test_a_server_without_token_ids_is_refused_with_what_is_needed(serve: Any) -> None:
    server = serve()
    server.always = "blind"
    with pytest.raises(ConfigError, match=r"return_token_ids.*vLLM from 0\.10\.2"):
        ask(server)


def test_closing_fails_what_is_under_way_and_what_comes(serve: Any) -> None:
    server = serve(delay=30.0)

    async def work(policy: OpenAIPolicy) -> None:
        waiting = [asyncio.create_task(policy.generate(CONTEXT, Sampling(4), seed=i)) for i in range(4)]
        await asyncio.sleep(0.2)
        await policy.close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [RuntimeError] * 4
        with pytest.raises(RuntimeError, match="closed"):
            await policy.generate(CONTEXT, Sampling(4), seed=1)

    within(work, server, concurrency=2)


# --- a server that dies in the middle of a rollout --------------------------------------------------------


def grow(policy: OpenAIPolicy, killer: Callable[[], None] | None, rollouts: int = 8) -> RolloutTree:
    """Grows one tree; the killer strikes at the third tool call."""
    calls: list[Any] = []

    def hook(history: Sequence[str]) -> None:
        calls.append(history)
        if len(calls) == 3 and killer is not None:
            killer()

    async def run() -> RolloutTree:
        env = lambda: Lenient(CountTool(hook=hook))  # noqa: E731
        renderer = TextRenderer(TOKENIZER, with_instructions=False)
        limits = Limits(mode="free", action_tokens=10, answer_reserve=8, policy_timeout=30.0)
        (tree,) = await collect(env, [Start(1)], policy, renderer, Plan(NoBranching(), rollouts), seed=1, limits=limits)
        await policy.close()
        return tree

    return asyncio.run(run())


def statuses(tree: RolloutTree) -> list[Status | None]:
    return [tree.nodes[leaf].status for leaf in tree.leaves()]


def test_a_killed_replica_costs_no_path(serve: Any) -> None:
    one, other = serve(delay=0.02, context_length=500), serve(delay=0.02, context_length=500)
    policy = policy_of(one, other)

    def kill_the_busier() -> None:
        max(one, other, key=lambda server: len(server.requests)).kill()

    tree = grow(policy, kill_the_busier)
    assert statuses(tree) == [Status.ANSWERED] * 8
    assert min(len(one.requests), len(other.requests)) > 0, "the survivor took over"


def test_when_the_last_server_dies_its_paths_end_as_faults_that_are_not_the_models(serve: Any) -> None:
    server = serve(context_length=500)
    server.dies_after = 28  # of about 32: eight paths take four generations each, and which come last is not fixed
    ends = statuses(grow(policy_of(server, attempts=2, concurrency=1), None))
    assert len(ends) == 8
    assert set(ends) == {Status.ANSWERED, Status.POLICY_FAULT}, "none is lost, and what was earned before is kept"
    assert not Status.POLICY_FAULT.is_model


def test_when_nothing_answers_the_step_fails_with_the_reason(serve: Any) -> None:
    server = serve(context_length=500)
    server.dies_after = 2
    with pytest.raises(RolloutError, match=r"All 8 paths failed; .*127\.0\.0\.1"):
        grow(policy_of(server, attempts=2), None)


def test_some_lost_paths_do_not_end_the_step(serve: Any) -> None:
    server = serve(context_length=500)
    policy = policy_of(server, attempts=1)
    server.faults.extend(["500", "cut"])
    tree = grow(policy, None)
    ends = statuses(tree)
    assert ends.count(Status.POLICY_FAULT) >= 2
    assert Status.ANSWERED in ends


# --- weights ----------------------------------------------------------------------------------------------


def logprob_error(model: Any, context: Sequence[int], drawn: Generation) -> float:
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*context, *drawn.tokens]])).logits[0, len(context) - 1 : -1]
    wanted = logits.log_softmax(-1).gather(1, torch.tensor(drawn.tokens)[:, None])[:, 0]
    return float((wanted - torch.tensor(drawn.logprobs)).abs().max())


def test_a_server_that_takes_no_weights_may_evaluate_but_not_train(serve: Any, folder: Path, tmp_path: Path) -> None:
    server = serve(dev=False)

    async def work(policy: OpenAIPolicy) -> None:
        await policy.load({}, 7)
        assert (await policy.generate(CONTEXT, Sampling(2), seed=1)).version == 7
        with pytest.raises(ConfigError, match="VLLM_SERVER_DEV_MODE=1"):
            await policy.load(tiny_model().state_dict(), 8)
        assert policy.version == 7

    within(work, server, model_folder=folder, weights_folder=tmp_path)
    assert "cache_salt" not in server.requests[0]


def test_a_folder_that_the_server_does_not_see_is_explained(serve: Any, folder: Path, tmp_path: Path) -> None:
    server = serve(sees=tmp_path / "elsewhere")

    async def work(policy: OpenAIPolicy) -> None:
        with pytest.raises(ServerFault, match="Does the server see"):
            await policy.load(tiny_model().state_dict(), 1)

    within(work, server, model_folder=folder, weights_folder=tmp_path / "here")
    assert server.requests == []


def test_a_replica_that_was_away_gets_the_weights_before_it_is_used_again(serve: Any, folder: Path, tmp_path: Path) -> None:
    one, other = serve(), serve()
    new = tiny_model(seed=5)
    contexts = [[i, *CONTEXT] for i in range(24)]

    async def work(policy: OpenAIPolicy) -> None:
        async def all_new() -> None:
            answers = await asyncio.gather(*(policy.generate(c, Sampling(4), seed=1) for c in contexts))
            assert {drawn.version for drawn in answers} == {3}
            assert max(map(logprob_error, [new] * 24, contexts, answers)) <= nats(new)

        other.kill()
        await policy.load(new.state_dict(), 3)
        assert len(one.loads) == 1
        await all_new()
        back = serve(port=other.port)
        for _ in range(100):
            await all_new()
            if back.requests:
                break
            await asyncio.sleep(0.1)
        assert back.loads == one.loads
        assert back.requests, "it is used again"
        salts = {request["cache_salt"] for request in [*one.requests, *back.requests]}
        assert salts == set(one.loads), "keys of other weights have another name"
        back.kill()
        one.kill()
        with pytest.raises(ServerFault, match="No replica took the new weights"):
            await policy.load(new.state_dict(), 4)

    within(work, one, other, model_folder=folder, weights_folder=tmp_path, attempts=2)


# --- temperature ------------------------------------------------------------------------------------------


def test_logprobs_at_another_temperature_are_refused_for_training_only(serve: Any) -> None:
    raw = serve(scaled=False)

    async def warm(policy: OpenAIPolicy) -> Generation:
        return await policy.generate(CONTEXT, Sampling(4, temperature=0.7), seed=1)

    with pytest.raises(ConfigError, match="--logprobs-mode processed_logprobs"):
        within(warm, raw)
    assert within(warm, raw, strict=False).tokens == within(warm, serve()).tokens
    assert math.isfinite(sum(ask(raw)[0].logprobs))


def test_a_server_is_asked_once_what_its_logprobs_mean(serve: Any) -> None:
    one, other = serve(), serve()

    async def warm(policy: OpenAIPolicy) -> None:
        params = Sampling(2, temperature=0.7)
        await asyncio.gather(*(policy.generate([*CONTEXT, i], params, seed=1) for i in range(24)))

    within(warm, one, other)
    assert len(one.requests) + len(other.requests) == 2 + 24
    assert min(len(one.requests), len(other.requests)) > 0, "prompts that begin alike are spread as before"


# --- what a server says about itself ----------------------------------------------------------------------


def test_wrong_addresses_and_models_are_explained(serve: Any) -> None:
    server = serve()
    with pytest.raises(ConfigError, match=r"No server answers at http://127\.0\.0\.1:9: ConnectError"):
        OpenAIPolicy(["http://127.0.0.1:9"], TOKENIZER)
    with pytest.raises(ConfigError, match="is not an OpenAI-compatible server: GET /v1/models answers 404"):
        OpenAIPolicy([server.url + "/somewhere"], TOKENIZER)
    with pytest.raises(ConfigError, match=r"max_model_len 128, .* has 64"):
        policy_of(server, serve(context_length=64))


def test_a_replica_that_is_down_at_first_is_left_out(serve: Any) -> None:
    server = serve()

    async def work(policy: OpenAIPolicy) -> None:
        await asyncio.gather(*(policy.generate([*CONTEXT, i], Sampling(2), seed=1) for i in range(6)))

    dead = serve()
    dead.kill()
    within(work, server, dead)
    assert len(server.requests) == 6
