"""`arpo train` and `arpo eval` with vLLM drawing the actions, on a CPU, with the real engine."""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from rounding import kl, nats
from vllm_toys import MARKS

from algorithms.cli import main
from algorithms.models.loading import load_policy
from algorithms.policies import Sampling
from algorithms.policies.vllm import VLLMPolicy

pytestmark = MARKS

ENGINE = ["--engine", "vllm", "--engine-args", "enforce_eager=True", "cache_bytes=268435456"]
SMALL = ["--env-args", "cities_per_country=4", "--prompts", "4", "--rollouts", "8", "--eval-questions", "4"]
STEPS = ["--learning-rate", "2e-3", "--adam-epsilon", "1e-8"]


@pytest.fixture(scope="module")
def imitator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a tiny policy that writes actions, so that rewards differ and there is something to learn."""
    from algorithms.checkpoint import save_policy
    from algorithms.cli.environments import env_maker
    from algorithms.models.embedded.cold_start import ColdStartConfig, build, cold_start
    from algorithms.rendering import TextRenderer

    make_env = env_maker("ARPO/SearchMini-v0", {"cities_per_country": 4})
    phases = {"echo_steps": 0, "drill_steps": 0, "imitation_steps": 25, "imitation_rate": 1e-2}
    size = ColdStartConfig(hidden=64, layers=1, heads=2, batch=16, lessons=100, **phases)
    model, tokenizer = build(make_env, size, seed=0)
    renderer = TextRenderer(tokenizer, with_instructions=False)
    cold_start(make_env, model, tokenizer, renderer, size, seed=0, report=lambda *progress: None)
    folder = tmp_path_factory.mktemp("policy")
    save_policy(folder, model, tokenizer)
    (folder / "embedded.json").write_text('{"with_instructions": false}', encoding="utf-8")
    return folder


@pytest.fixture
def synced(imitator: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float, float]]:
    """Returns what every load adds a line to: (version, nats the engine is off the learner, nats it is off its start)."""
    learner, start = load_policy(imitator)[0].eval(), load_policy(imitator)[0].eval()
    lines: list[tuple[int, float, float]] = []
    load = VLLMPolicy.load

    async def checked(policy: VLLMPolicy, weights: Mapping[str, Any], version: int) -> None:
        await load(policy, weights, version)
        learner.load_state_dict(weights)
        context = list(range(5, 45))
        drawn = await policy.generate(context, Sampling(24), seed=version)
        ids = torch.tensor([[*context, *drawn.tokens]])
        apart = []
        for model in (learner, start):
            with torch.inference_mode():
                logp_TV = model(input_ids=ids).logits[0, len(context) - 1 : -1].log_softmax(-1)
            chosen = logp_TV.gather(1, torch.tensor(drawn.tokens)[:, None])[:, 0]
            apart.append(float((chosen - torch.tensor(drawn.logprobs)).abs().max()))
        assert drawn.version == version
        lines.append((version, *apart))

    monkeypatch.setattr(VLLMPolicy, "load", checked)
    monkeypatch.setenv("COLUMNS", "200")
    return lines


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_two_steps_with_weight_sync_and_a_resume(imitator: Path, synced: list[Any], tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "run"
    words = ["--policy", str(imitator), "--output", str(run), "--steps", "2", "--checkpoint-every", "1"]
    assert main(["train", *words, *ENGINE, *SMALL, *STEPS]) == 0, capsys.readouterr()
    _learned_in_sync(run, synced, versions=[0, 0, 0, 1, 2])  # twice more for the comparison before a run
    after = json.loads((run / "after.json").read_text(encoding="utf-8"))
    assert 0.0 <= after["sampled"] <= 1.0

    synced.clear()
    shutil.rmtree(run / "checkpoints" / "step-000002")
    (run / "after.json").unlink()
    assert main(["train", "--resume", str(run)]) == 0, capsys.readouterr()
    _learned_in_sync(run, synced, versions=[1, 1, 1, 2])

    result = tmp_path / "eval.json"
    words = ["--policy", str(run), "--questions", "4", "--json", str(result)]
    assert main(["eval", *words, *ENGINE]) == 0, capsys.readouterr()
    assert json.loads(result.read_text(encoding="utf-8"))["questions"] == 4


def _learned_in_sync(run: Path, synced: list[tuple[int, float, float]], versions: list[int]) -> None:
    """Checks every sync, and that there was something to sync."""
    assert [version for version, _, _ in synced] == versions
    bound = nats(load_policy(run / "policy")[0])
    assert max(off for _, off, _ in synced) <= bound, synced
    assert all(moved > bound for version, _, moved in synced if version), synced
    lines = metrics(run)
    assert [line["step"] for line in lines] == [0, 1]
    assert all(line["gradient_norm"] > 0 for line in lines)
    assert all(line["mismatch_kl"] <= kl(bound) and abs(math.log(line["mismatch_ratio_max"])) <= bound for line in lines), lines
