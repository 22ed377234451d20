"""Engines in front of a real vLLM server, which remembers the name of its weights until it is started anew."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from model_toys import byte_tokenizer, tiny_model
from rounding import kl, nats
from test_vllm_server import policy_of, worst
from vllm_servers import Server, start
from vllm_toys import MARKS, SHAPE

from algorithms.checkpoint import save_policy
from algorithms.cli import main
from algorithms.models.loading import load_policy
from algorithms.policies import Sampling, dispatch
from algorithms.tracking.trees import read_trees

pytestmark = [*MARKS, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("server")
    save_policy(home / "llama", tiny_model("llama", **SHAPE), byte_tokenizer())
    (home / "llama" / "embedded.json").write_text('{"with_instructions": false}', encoding="utf-8")  # short prompts
    started = start(home / "llama", home / "log")
    try:
        started.wait()
        yield started
    finally:
        started.kill()


def name_of(server: Server) -> str:
    return str(httpx.get(f"{server.url}/weight_info", trust_env=False).json()["weight_version"])


def test_a_server_with_other_weights_than_it_was_given_gets_the_newest_before_it_draws(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was started anew has forgotten the name of its weights, which is all that the client asks."""
    assert name_of(server) == "default"
    models = [tiny_model("llama", seed=seed, **SHAPE) for seed in (5, 6)]

    async def run() -> None:
        policy, other = policy_of(server), policy_of(server)
        try:
            await policy.load(models[0].state_dict(), 1)
            assert policy.delivered.folder is not None
            assert name_of(server) == policy.delivered.folder.name
            await other.load(models[1].state_dict(), 1)
            monkeypatch.setattr(dispatch, "_QUIET_SECONDS", -1.0)
            drawn = await policy.generate([5, 6, 7], Sampling(12), seed=1)
            assert worst(models[0], [5, 6, 7], drawn) <= nats(models[0])
            assert name_of(server) == policy.delivered.folder.name
        finally:
            await policy.close()
            await other.close()

    asyncio.run(run())


def test_engines_in_front_of_the_server_draw_with_what_the_learner_has_learned(server: Server, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", "--policy", server.url, "--cluster", "local", "--engines", "2", "--output", str(run), "--steps", "2"]
    words += ["--env", "letters:LettersElsewhere-v0", "--prompts", "2", "--rollouts", "4", "--eval-questions", "2"]
    words += ["--mode", "free", "--learning-rate", "1e-2", "--adam-epsilon", "1e-8", "--threads", "1"]
    assert main(words) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2
    learned, first = load_policy(run / "policy")[0], load_policy(server.folder)[0]
    assert max(abs(line["mismatch_kl"]) for line in lines) <= max(kl(nats(first)), kl(nats(learned)))
    assert min(line["gradient_norm"] for line in lines) > 0
    trees = read_trees(run / "trees.jsonl.zst")
    versions = {(tree.meta["step"], node.policy_version) for tree in trees for node in tree.nodes if any(node.sampled)}
    assert versions == {(0, 0), (1, 1)}
    assert name_of(server).startswith("update-")
