"""What the tests against the real vLLM share; they run by `make test-vllm` only."""

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "algorithms"))  # for `model_toys`


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keeps vLLM off the network and short-spoken, and what it leaves behind within the test."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("VLLM_NO_USAGE_STATS", "1")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # the learner needs the cores, too
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    gc.collect()


@pytest.fixture
def save_tiny(tmp_path: Path) -> Callable[..., tuple[Path, Any]]:
    """Returns a maker of (folder, model) of a tiny random model."""
    from model_toys import byte_tokenizer, tiny_model
    from vllm_toys import SHAPE

    from algorithms.checkpoint import save_policy

    def save(family: str, **options: Any) -> tuple[Path, Any]:
        folder, model = tmp_path / family, tiny_model(family, **SHAPE, **options)
        save_policy(folder, model, byte_tokenizer())
        return folder, model

    return save
