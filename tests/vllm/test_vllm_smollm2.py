"""A real language model with real, tied embeddings through vLLM: SmolLM2-135M, and another one made of it by noise."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm_toys import MARKS

from algorithms.checkpoint import load_policy
from algorithms.policies.vllm import VLLMPolicy
from algorithms.smollm2 import smollm2_folder
from algorithms.testing import Law, Promises, check_policy

pytestmark = MARKS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARPO_ENVS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return smollm2_folder(lambda line: None)


def noisy(model: Any) -> Any:
    """Returns a copy whose every weight is off by some percent."""
    other = copy.deepcopy(model)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1 + 0.02 * torch.randn(weight.shape, generator=noise))
    return other


def test_it_conforms(folder: Path) -> None:
    model, tokenizer = load_policy(folder)
    other = noisy(model.eval())
    report = check_policy(
        lambda: VLLMPolicy(folder, tokenizer, context_length=128, cache_bytes=1 << 28, options={"enforce_eager": True}),
        encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
        decode=lambda ids: str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)),
        reference=model,
        other=other.state_dict(),
        other_reference=other,
        promises=Promises(split=False, batch=False, entropy_slack=1.0),  # from the top 20 of 49152
        capacity=8,
        timeout=300.0,
    )
    assert set(report.passed) | set(report.skipped) == set(Law), str(report)
    assert set(report.skipped) <= {Law.SPLIT, Law.BATCH, Law.SIBLINGS}, str(report)
