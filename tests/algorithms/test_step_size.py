"""A learning rate that rounding swallows is refused before anything is trained."""

import pytest
import torch
from model_toys import tiny_model

from algorithms.learner import LearnerConfig, LoRA, TorchLearner
from algorithms.learner.step_size import require_step
from arpo_envs import ConfigError

HALF = torch.bfloat16


def test_a_model_in_half_precision_that_would_hardly_move_is_refused() -> None:
    words = r"learning rate 1e-06 would move 0?\.?\d*% of .* bfloat16 has too few digits. Load the model in float32; autocast="
    with pytest.raises(ConfigError, match=words):
        TorchLearner(tiny_model(dtype=HALF), LearnerConfig(learning_rate=1e-6))


@pytest.mark.parametrize(
    ("dtype", "rate"),
    [(HALF, 1e-2), (HALF, 0.0), (torch.float32, 1e-6), (torch.float64, 1e-12), (torch.float16, 1e-3)],
)
def test_what_moves_is_trained(dtype: torch.dtype, rate: float) -> None:
    TorchLearner(tiny_model(dtype=dtype), LearnerConfig(learning_rate=rate))


def test_only_what_is_trained_counts_and_a_value_head_is_no_excuse() -> None:
    TorchLearner(tiny_model(dtype=HALF), LearnerConfig(learning_rate=1e-2, lora=LoRA(rank=2)))
    for options in ({"lora": LoRA(rank=2)}, {}):  # adapters are as precise as the model
        with pytest.raises(ConfigError, match="bfloat16"):
            TorchLearner(tiny_model(dtype=HALF), LearnerConfig(learning_rate=1e-6, **options), values=True)


@pytest.mark.parametrize(("dtype", "swallowed", "kept"), [(HALF, 2**-9, 2**-7), (torch.float16, 2**-12, 2**-10)])
def test_the_share_is_that_of_all_weights(dtype: torch.dtype, swallowed: float, kept: float) -> None:
    weights = [torch.full((1000, 700), 1.25, dtype=dtype), torch.full((300,), 1e-4, dtype=dtype)]
    require_step(weights, kept)
    with pytest.raises(ConfigError, match=r"would move 0\.04\d*% of the trained weights"):
        require_step(weights, swallowed)


def test_weights_are_sampled_from_all_over() -> None:
    stuck, free = torch.ones(500_000, dtype=HALF), torch.zeros(500_000, dtype=HALF)
    require_step([torch.cat([stuck[:-1000], free])], 1e-6)
    with pytest.raises(ConfigError, match=r"would move (50|4\d)%"):
        require_step([torch.cat([free[:-9000], stuck])], 1e-6)
    with pytest.raises(ConfigError, match=r"would move 4\d%"):
        require_step([stuck, *free[:-90_000].split(1000)], 1e-6)


def test_in_full_precision_the_advice_is_another() -> None:
    with pytest.raises(ConfigError, match=r"float32 has too few digits\. Raise the learning rate\."):
        require_step([torch.ones(10)], 1e-9)


def test_nothing_to_train_is_none_of_its_business() -> None:
    require_step([], 1e-3)
