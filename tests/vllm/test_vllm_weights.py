"""Weights on their way to two real vLLM servers: the probe sees each update arrive, and finds those that only seem to."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from model_toys import byte_tokenizer, tiny_model
from test_weight_probe import half, moved, old_head
from vllm_servers import Server, start
from vllm_toys import MARKS, SHAPE

from algorithms.checkpoint import save_policy
from algorithms.learner import TorchLearner
from algorithms.models.agreement import Arrival, WeightProbe, WeightsDiffer
from algorithms.policies import openai
from algorithms.policies.export import export_weights
from algorithms.policies.openai import OpenAIPolicy

pytestmark = [*MARKS, pytest.mark.timeout(1500)]

Weights = Mapping[str, torch.Tensor]


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Starts two replicas of a model that ties two matrices, which they hold apart."""
    home = tmp_path_factory.mktemp("workers")
    save_policy(home / "model", tied(), byte_tokenizer())
    apart = export_weights(home / "model", None, home / "apart")
    started = [start(apart, home / f"{name}.log") for name in ("one", "two")]
    try:
        for server in started:
            server.wait()
        yield started
    finally:
        for server in started:
            server.kill()


def tied() -> Any:
    return tiny_model("qwen2", tie_word_embeddings=True, **SHAPE)


def test_every_update_is_seen_to_arrive_at_both_and_planted_faults_are_found(
    workers: list[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export, push = openai.export_weights, openai.push_weights

    def exporting(spoil: Callable[[Weights, Weights], Weights], old: Weights) -> Any:
        return lambda source, new, folder: export(source, dict(new) | spoil(new, old), folder)

    async def not_to_the_second(url: str, *rest: Any) -> None:
        if url != workers[1].url:
            await push(url, *rest)

    async def run() -> tuple[list[list[Arrival]], dict[str, str]]:
        arrived, caught = [], {}
        learner = TorchLearner(tied())
        urls = [server.url for server in workers]
        folders = {"model_folder": workers[0].folder.with_name("model"), "weights_folder": tmp_path}
        policy = OpenAIPolicy(urls, byte_tokenizer(), vocabulary_size=265, **folders)
        try:
            await policy.load(learner.weights(), 0)
            probe = WeightProbe(policy, learner)
            await probe.begin()
            for step in (1, 2, 3):
                moved(learner.model, step, 1e-3)
                await policy.load(learner.weights(), step)
                arrived.append(await probe.require())

            old = {name: tensor.clone() for name, tensor in learner.weights().items()}
            moved(learner.model, 4, 1e-3)
            for name, what, fault in (
                ("no-op", "push_weights", not_to_the_second),
                ("half", "export_weights", exporting(half, old)),
                ("tied", "export_weights", exporting(old_head, old)),
            ):
                with monkeypatch.context() as patched:
                    patched.setattr(openai, what, fault)
                    await policy.load(learner.weights(), 4)
                with pytest.raises(WeightsDiffer) as found:
                    await probe.require()
                caught[name] = str(found.value)
            await policy.load(learner.weights(), 4)
            arrived.append(await probe.require())
            return arrived, caught
        finally:
            await policy.close()

    arrived, caught = asyncio.run(run())
    assert all(len(both) == 2 and all(one.fine and one.known for one in both) for both in arrived), arrived
    assert f"The engine at {workers[1].url} does not draw with the learner's weights of step 4" in caught["no-op"]
    assert "it still draws with those of step 3" in caught["no-op"]
    assert "a part of them did not arrive" in caught["half"]
    assert "did not arrive in the head, where it is still that of step 3" in caught["tied"]
