"""What only a GPU can show: `make test-gpu` runs it, and so does `pytest -m cuda tests/algorithms/test_cuda.py`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from agreement_sweep import Setting, compared
from model_toys import tiny_model
from rounding import check_equal, rounding
from test_agreement import FAULTS
from test_packed_training import TREES, grad

from algorithms.advantages import Scores
from algorithms.advantages.soft import SoftAttribution
from algorithms.cli import main
from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.losses.clip import ClipLoss
from algorithms.packing import packable

pytestmark = [pytest.mark.cuda, pytest.mark.filterwarnings("ignore")]  # its libraries warn of much
SMALL = ["--env-args", "cities_per_country=4", "--prompts", "4", "--rollouts", "6", "--eval-questions", "4"]
USUAL = [Setting("cuda"), Setting("cuda", "bfloat16"), Setting("cuda", attention="eager"), Setting("cuda", products="high")]
FLEX = [Setting("cuda", dtype, "flex_attention") for dtype in ("float32", "bfloat16")]


@pytest.mark.parametrize("name", ["llama", "mistral-window", "gpt-oss", "gpt2"])
@pytest.mark.parametrize("setting", USUAL, ids=str)
def test_an_architecture_agrees_in_every_way(name: str, setting: Setting) -> None:
    found = compared(name, setting)
    assert found["of_allowed"] <= 1.0
    assert found["packed_of_allowed"] <= 1.0


@pytest.mark.parametrize("name", ["llama", "mistral-window", "qwen3"])
@pytest.mark.parametrize("setting", FLEX, ids=str)
def test_flex_attention_agrees_with_the_usual_one(name: str, setting: Setting) -> None:
    found = compared(name, setting)
    assert found["of_allowed"] <= 1.0
    assert found["packed_of_allowed"] <= 1.0


@pytest.mark.parametrize(("fault", "name", "way"), FAULTS, ids=[f"{fault.__name__}-{name}" for fault, name, _ in FAULTS])
@pytest.mark.parametrize("setting", [USUAL[0], USUAL[1], USUAL[3]], ids=str)
def test_a_fault_planted_in_the_engine_is_found(fault: Any, name: str, way: str, setting: Setting) -> None:
    assert compared(name, setting, fault)["refused"]


def gradients(attention: Any, packing: Any, model: Any) -> dict[str, torch.Tensor]:
    config = LearnerConfig(gradient_clip=1e9, packing=packing, attention=attention)
    learner = TorchLearner(model, config, device="cuda")
    trees = TREES["random"]
    learner.update(trees, SoftAttribution()(trees, Scores()), Scores(), ClipLoss(), "token")
    return grad(learner.model)


@pytest.mark.parametrize("packing", ["auto", "flat"])
def test_the_gradient_by_flex_attention_is_that_of_flat_rows(packing: Any) -> None:
    def model() -> Any:
        return tiny_model(vocabulary=64, hidden_size=64).cuda()

    rounded = rounding(lambda moved: gradients("as-loaded", "flat", moved), model())
    check_equal(gradients("flex_attention", packing, model()), gradients("as-loaded", "flat", model()), rounded)


@pytest.mark.parametrize("attention", ["as-loaded", "flex_attention"])
def test_the_same_seed_gives_the_same_bytes(attention: str, tiny_policy: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        run = ["--policy", str(tiny_policy), "--output", str(tmp_path / name), "--steps", "3", "--device", "cuda"]
        assert main(["train", *run, *SMALL, "--attention", attention]) == 0
    one, other = ((tmp_path / name / "trees.jsonl.zst").read_bytes() for name in ("one", "other"))
    assert one == other
    one, other = ((tmp_path / name / "policy" / "model.safetensors").read_bytes() for name in ("one", "other"))
    assert one == other


def test_nothing_piles_up_on_the_device(tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from algorithms.trainer import Trainer

    step, held = Trainer.step, []

    async def watched(self: Trainer, number: int) -> Any:
        result = await step(self, number)
        held.append(torch.cuda.memory_allocated())
        return result

    monkeypatch.setattr(Trainer, "step", watched)
    run = ["--policy", str(tiny_policy), "--output", str(tmp_path / "run"), "--steps", "8", "--device", "cuda"]
    assert main(["train", *run, *SMALL]) == 0
    assert max(held[4:]) < max(held[1:4]) + 2**16, f"less than any of a step's own tensors: {json.dumps(held)}"


def test_what_rounds_a_model_is_drawn_where_the_model_is(monkeypatch: pytest.MonkeyPatch) -> None:
    real, devices = torch.randint, set()

    def watched(*arguments: Any, **options: Any) -> torch.Tensor:
        out = real(*arguments, **options)
        devices.add(out.device.type)
        return out

    monkeypatch.setattr(torch, "randint", watched)
    assert packable.rounding(tiny_model().cuda()) > 0.0
    assert devices == {"cuda"}
