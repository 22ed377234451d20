"""A real language model with real, tied embeddings through vLLM: SmolLM2-135M, and another one made of it by noise."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from vllm_servers import start
from vllm_toys import MARKS

from algorithms.models.loading import load_policy
from algorithms.models.smollm2 import smollm2_folder
from algorithms.policies import Policy
from algorithms.policies.openai import OpenAIPolicy
from algorithms.policies.vllm import VLLMPolicy
from algorithms.testing import Law, Promises, check_policy

pytestmark = [*MARKS, pytest.mark.thorough]  # a quarter of an hour each on two busy cores

OF_THE_MODEL = {
    *(Law.SHAPES, Law.EXACT_IDS, Law.LOGPROBS, Law.ENTROPIES, Law.GREEDY, Law.STOP_STRINGS, Law.STOP_SEAM, Law.UNICODE),
    *(Law.VERSION, Law.WEIGHTS, Law.STALE),
}
"""Those that a large vocabulary, words of several letters and real weights could break; the tiny models are asked for all."""


@pytest.fixture(scope="module")
def folder(smollm2_cache: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARPO_ENVS_CACHE", str(smollm2_cache))
        return smollm2_folder(lambda line: None)


def noisy(model: Any) -> Any:
    """Returns a copy whose every weight is off by some percent."""
    other = copy.deepcopy(model)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1 + 0.02 * torch.randn(weight.shape, generator=noise))
    return other


def conforms(folder: Path, make: Callable[[Any], Policy]) -> None:
    """Checks a policy that draws from the model in a folder, up to 128 tokens."""
    model, tokenizer = load_policy(folder)
    other = noisy(model.eval())
    report = check_policy(
        lambda: make(tokenizer),
        encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
        decode=lambda ids: str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)),
        reference=model,
        other=other.state_dict(),
        other_reference=other,
        promises=Promises(split=False, batch=False, entropy_slack=1.0),  # from the top 20 of 49152
        capacity=8,
        timeout=300.0,
        skip={law: "the tiny models are asked for it" for law in Law if law not in OF_THE_MODEL},
    )
    assert set(report.passed) == OF_THE_MODEL, str(report)


def test_it_conforms_in_process(folder: Path) -> None:
    options = {"enforce_eager": True}
    conforms(folder, lambda tokenizer: VLLMPolicy(folder, tokenizer, context_length=128, cache_bytes=1 << 28, options=options))


def test_it_conforms_behind_a_url(folder: Path, tmp_path: Path) -> None:
    server = start(folder, tmp_path / "log")
    try:
        server.wait()
        weights = tmp_path / "weights"
        conforms(
            folder,
            lambda tokenizer: OpenAIPolicy(
                [server.url], tokenizer, vocabulary_size=49152, context_length=128, model_folder=folder, weights_folder=weights
            ),
        )
    finally:
        server.kill()
