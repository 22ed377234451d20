"""The policy behind a URL, against real vLLM servers on loopback: conformance, weights, the commands, a killed replica."""

import asyncio
import json
import math
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import httpx
import pytest
import torch
from model_toys import byte_tokenizer, tiny_model
from rollout_toys import CountTool
from rounding import kl, nats, slack
from test_trainer import Lenient
from vllm_servers import Server, start
from vllm_toys import MARKS, SHAPE

from algorithms import make
from algorithms.checkpoint import save_policy
from algorithms.cli import main
from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.models.loading import load_policy
from algorithms.policies import Generation, Sampling
from algorithms.policies.openai import OpenAIPolicy
from algorithms.rendering import TextRenderer
from algorithms.rollout.run import Limits, Start
from algorithms.testing import Law, Promises, check_policy
from algorithms.trainer import StepResult, Trainer
from algorithms.tree import Status

pytestmark = [*MARKS, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Starts all servers at the same time: two replicas of a random model, and one of a tied model."""
    home = tmp_path_factory.mktemp("servers")
    save_policy(home / "llama", tiny_model("llama", **SHAPE), byte_tokenizer())
    (home / "llama" / "embedded.json").write_text('{"with_instructions": false}', encoding="utf-8")  # short prompts
    save_policy(home / "qwen2", tiny_model("qwen2", tie_word_embeddings=True, **SHAPE), byte_tokenizer())
    folders = {"one": home / "llama", "two": home / "llama", "tied": home / "qwen2"}
    started = {name: start(folder, home / f"{name}.log") for name, folder in folders.items()}
    try:
        for server in started.values():
            server.wait()
        yield started
    finally:
        for server in started.values():
            server.kill()


@pytest.fixture(autouse=True)
def none_has_ended(servers: dict[str, Server]) -> None:
    """Says which server an earlier test has brought down, which a policy with another replica gets over."""
    ended = {name: server.log.read_text(errors="replace")[-3000:] for name, server in servers.items() if not server.goes_on()}
    assert not ended, ended


@pytest.fixture
def letters() -> Iterator[str]:
    """Returns the id of an environment in which a random model, too, earns something: the letters it writes."""
    gym.register("Letters-v0", entry_point=lambda **options: Lenient(CountTool()))
    yield "Letters-v0"
    del gym.registry["Letters-v0"]


def policy_of(*servers: Server, **options: Any) -> OpenAIPolicy:
    """Returns a policy of random models on these servers."""
    folder = servers[0].folder
    urls = [server.url for server in servers]
    return OpenAIPolicy(
        urls, byte_tokenizer(), vocabulary_size=265, model_folder=folder, weights_folder=folder.parent / "weights", **options
    )


def worst(model: Any, context: Sequence[int], drawn: Generation) -> float:
    """Returns the largest difference between reported log-probabilities and the model's, nats."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*context, *drawn.tokens]])).logits[0, len(context) - 1 : -1]
    chosen = logits.log_softmax(-1).gather(1, torch.tensor(drawn.tokens)[:, None])[:, 0]
    return float((chosen - torch.tensor(drawn.logprobs)).abs().max())


def test_two_replicas_conform(servers: dict[str, Server]) -> None:
    tokenizer, other = byte_tokenizer(), tiny_model("llama", seed=5, **SHAPE)
    report = check_policy(
        lambda: policy_of(servers["one"], servers["two"], context_length=128, top_logprobs=265),
        encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
        decode=lambda ids: str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)),
        reference=tiny_model("llama", **SHAPE),
        other=other.state_dict(),
        other_reference=other,
        promises=Promises(split=False, batch=False, **slack(nats(tiny_model("llama", **SHAPE)))),
        capacity=8,
        timeout=200.0,
    )
    assert set(report.passed) | {Law.SPLIT, Law.BATCH, Law.BITS, Law.SIBLINGS} == set(Law), str(report)


@pytest.mark.parametrize(("name", "family", "tied"), [("one", "llama", False), ("tied", "qwen2", True)])
def test_weights_arrive_and_keys_of_old_ones_are_forgotten(
    name: str, family: str, tied: bool, servers: dict[str, Server]
) -> None:
    models = [tiny_model(family, seed=seed, tie_word_embeddings=tied, **SHAPE) for seed in (0, 5, 6)]
    context = byte_tokenizer().encode("Which city lies on the river? " * 5, add_special_tokens=False)

    async def run() -> list[list[float]]:
        policy = policy_of(servers[name])
        errors = []
        for version, model in enumerate(models):
            await policy.load(model.state_dict(), version)
            drawn = await policy.generate(context, Sampling(12), seed=version)
            assert drawn.version == version
            errors.append([worst(one, context, drawn) for one in models])
        await policy.close()
        return errors

    for version, errors in enumerate(asyncio.run(run())):
        for number, error in enumerate(errors):
            assert (error <= nats(models[number])) == (number == version), (version, errors)


def test_a_cancelled_request_is_aborted_on_the_server(servers: dict[str, Server]) -> None:
    """Of requests that the server began and that were cancelled, not all reach their last token there.

    How soon a request begins, and how soon it is over, depends on the machine, so a wait between the two is searched for. The
    server's counters tell, not its gauges: busy, it may answer only when a request is over.
    """
    server, context, requests = servers["one"], [5, 6, 7], 16

    def count(name: str) -> float:
        lines = httpx.get(f"{server.url}/metrics", trust_env=False, timeout=60.0).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"vllm:{name}{{"))

    def begun() -> float:
        return count("prompt_tokens_total") / len(context)

    async def cancel_after(seconds: float) -> None:
        policy = policy_of(server)
        drawing = [asyncio.create_task(policy.generate(context, Sampling(500), seed=seed)) for seed in range(requests)]
        await asyncio.sleep(seconds)
        for task in drawing:
            task.cancel()
        await asyncio.gather(*drawing, return_exceptions=True)
        await policy.close()

    def wait_until_idle() -> None:
        until = time.monotonic() + 60.0
        while (going := count("num_requests_running") + count("num_requests_waiting")) and time.monotonic() < until:
            time.sleep(0.1)
        assert not going, "cancelled requests go on"

    seconds, none_began, all_ended = 0.1, 0.0, math.inf
    for _ in range(16):
        begun_before, ended_before = begun(), count("request_success_total")
        asyncio.run(cancel_after(seconds))
        wait_until_idle()
        began, ended = begun() - begun_before, count("request_success_total") - ended_before
        if ended < began:
            return
        none_began, all_ended = (none_began, seconds) if began else (seconds, all_ended)
        seconds = min(1.5 * seconds, (none_began + all_ended) / 2)
    pytest.fail("all requests that the server began went on to their last token")


def test_arpo_eval(servers: dict[str, Server], letters: str, tmp_path: Path) -> None:
    file = tmp_path / "eval.json"
    names = f"{servers['one'].url},{servers['two'].url}/v1"
    assert main(["eval", "--policy", names, "--env", letters, "--questions", "4", "--json", str(file)]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["ended_answered"] == 4


def test_arpo_train_of_two_steps(servers: dict[str, Server], letters: str, tmp_path: Path) -> None:
    run, server = tmp_path / "run", servers["one"]
    words = ["train", "--policy", server.url, "--env", letters, "--output", str(run), "--steps", "2", "--prompts", "2"]
    words += ["--rollouts", "4", "--eval-questions", "2", "--mode", "free", "--learning-rate", "1e-2", "--adam-epsilon", "1e-8"]
    assert main(words) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2
    assert min(line["gradient_norm"] for line in lines) > 0
    learned, first = load_policy(run / "policy")[0], load_policy(server.folder)[0]
    bound = kl(nats(first)), kl(nats(learned))
    assert max(abs(line["mismatch_kl"]) for line in lines) <= max(bound), "what was drawn is what the learner computes"
    context = [5, 6, 7]

    async def ask() -> Generation:
        policy = policy_of(server)
        drawn = await policy.generate(context, Sampling(12), seed=1)
        await policy.close()
        return drawn

    drawn = asyncio.run(ask())
    assert worst(learned, context, drawn) <= nats(learned), "the server has the learner's weights"
    assert worst(first, context, drawn) > nats(first), "and not those it was started with"


def test_a_replica_killed_in_the_middle_of_a_step_costs_no_path(servers: dict[str, Server]) -> None:
    one, two = servers["one"], servers["two"]
    model = tiny_model("llama", **SHAPE)
    calls: list[Any] = []

    def hook(history: Sequence[str]) -> None:
        calls.append(history)
        if len(calls) == 8:
            two.kill()

    async def run() -> tuple[StepResult, float, Generation]:
        policy = policy_of(one, two)
        trainer = Trainer(
            make_env=lambda: Lenient(CountTool(hook=hook)),
            starts=lambda step, refill: [Start(i) for i in range(12)],  # enough for both replicas
            policy=policy,
            renderer=TextRenderer(byte_tokenizer(), with_instructions=False),
            algorithm=make("grpo", rollouts=2),
            learner=TorchLearner(model, LearnerConfig(learning_rate=1e-2)),
            seed=1,
            limits=Limits(mode="free", action_tokens=24, answer_reserve=8),
        )
        await policy.load(trainer.learner.weights(), 0)
        result = await trainer.step(0)
        assert policy.version == 1
        drawn = await policy.generate([5, 6, 7], Sampling(12), seed=1)
        await policy.close()
        return result, result.metrics["mismatch_kl"], drawn

    result, mismatch, drawn = asyncio.run(run())
    assert two.process.poll() == -signal.SIGKILL
    ends = [tree.nodes[leaf].status for tree in result.trees for leaf in tree.leaves()]
    assert ends == [Status.ANSWERED] * 24
    assert abs(mismatch) <= kl(nats(tiny_model("llama", **SHAPE)))
    assert worst(model, [5, 6, 7], drawn) <= nats(model), "the survivor has the new weights"
