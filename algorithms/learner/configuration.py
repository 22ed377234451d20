"""The options of a learner: each of them is declared, explained and checked here, and nowhere else.

This file does not import torch, so the command line can describe a learner, and read a run's options, without it.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from arpo_envs import ConfigError

from ..losses import ON_POLICY, Loss
from .optimization import Schedule

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LoRA:
    """Which layers get adapters, and how large they are.

    Args:
        rank: of each adapter.
        alpha: the adapter's output is multiplied by alpha / rank.
        targets: names of layers, or "all-linear" for all linear layers but the head.

    Source: Hu et al., LoRA (arXiv 2106.09685).
    """

    rank: int = 16
    alpha: int = 32
    targets: str | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.rank < 1 or self.alpha < 1:
            raise ConfigError(f"LoRA needs rank and alpha of at least 1, got {self.rank} and {self.alpha}.")


@dataclass(frozen=True)
class LearnerConfig:
    """How to optimise.

    Raises:
        ConfigError: a number is out of range.
    """

    learning_rate: float = 1e-4
    """Learning rate of AdamW."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    adam_epsilon: float = 1e-8
    """Epsilon of AdamW; a large one keeps small, noisy gradients from growing into full steps."""
    gradient_clip: float = 1.0
    """Maximum global norm of the gradient."""
    micro_batch_tokens: int = 16384
    """Tokens per micro-batch, padding included; a smaller number saves memory and changes nothing else."""
    importance: Literal["token", "sequence", "none"] = "token"
    """Truncated importance sampling, which corrects for a sampler whose probabilities differ from the learner's. token: one
    weight per token. sequence: one weight per path. none: no weights; the ratio in the loss is then relative to the sampler's
    probabilities, so clipping also bounds the effect of that difference."""
    importance_cap: float = 2.0
    """Maximum importance weight."""
    schedule: Schedule = Schedule()
    """The learning rate over the optimizer steps of a run."""
    epochs: int = 1
    """Passes of the learner over each step's trees."""
    minibatches: int = 1
    """Optimizer steps per epoch. Trees are divided among them at random; no tree is split."""
    entropy_bonus: float = 0.0
    """Coefficient of the entropy bonus, which is aggregated like the loss."""
    lora: LoRA | None = None
    """Rank of LoRA adapters, which are trained instead of the whole model; needs the package peft."""
    autocast: Literal["none", "bfloat16"] = "none"
    """Precision of the learner's matrix products. none: the same as the weights. Weights and optimizer state keep their own
    precision in either case."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass instead of storing them."""
    packing: Literal["auto", "flat"] = "auto"
    """How the learner computes the paths of a tree. auto: tokens that several paths share are computed only once, where that
    is cheaper. flat: every path is computed on its own. The gradient is the same."""
    attention: Literal["as-loaded", "flex_attention"] = "as-loaded"
    """The learner's attention. as-loaded: the one that the model was loaded with. flex_attention: FlexAttention, which needs
    CUDA and skips the blocks of the attention mask that are fully masked."""
    bad_steps: int = 5
    """How many gradients in a row have to be infinite or NaN to end the run."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for name in ("epochs", "minibatches", "bad_steps", "micro_batch_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("learning_rate", "weight_decay", "entropy_bonus"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be at least 0 and finite, got {getattr(self, name)}.")
        for name in ("adam_epsilon", "gradient_clip"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}.")
        if self.importance not in ("token", "sequence", "none"):
            raise ConfigError(f'importance must be "token", "sequence" or "none", got {self.importance!r}.')
        if not self.importance_cap >= 1.0:  # or tokens on which both agree would lose weight
            raise ConfigError(f"importance_cap must be at least 1, got {self.importance_cap}.")
        if self.attention not in ("as-loaded", "flex_attention"):
            raise ConfigError(f'attention must be "as-loaded" or "flex_attention", got {self.attention!r}.')
        if self.autocast not in ("none", "bfloat16"):
            raise ConfigError(f'autocast must be "none" or "bfloat16", got {self.autocast!r}.')

    def over(self, updates: int) -> "LearnerConfig":
        """Returns the configuration for a run of that many updates, each of epochs × minibatches optimizer steps.

        Raises:
            ConfigError: the learning rate should decay, but the warm-up leaves no steps for that.
        """
        return replace(self, schedule=replace(self.schedule, steps=updates * self.epochs * self.minibatches))

    def rate(self, update: int, step: int = 0) -> float:
        """Returns the learning rate of one of an update's optimizer steps; both are counted from 0.

        Updates and steps that teach nothing count as well: a decay ends where the run was planned to.
        """
        return self.learning_rate * self.schedule(update * self.epochs * self.minibatches + step)

    def require_loss(self, loss: Loss) -> None:
        """Refuses several optimizer steps on the same trees to a loss that is right for the first one only.

        Raises:
            ConfigError: that is so.
        """
        if self.epochs * self.minibatches > 1 and ON_POLICY.of(loss):
            raise ConfigError(
                f"{type(loss).__name__} has no ratio to the policy that sampled, so it is right for a single optimizer step on "
                f"each batch, and epochs = {self.epochs} and minibatches = {self.minibatches} take "
                f"{self.epochs * self.minibatches}. Leave both at 1, or choose an algorithm whose loss clips that ratio, such "
                "as rloo with clip=0.2."
            )

    def require_device(self, device: "torch.device") -> None:
        """Refuses a device that does not support the configuration.

        Raises:
            ConfigError: FlexAttention anywhere but on CUDA.
        """
        if self.attention == "flex_attention" and device.type != "cuda":
            raise ConfigError(f"FlexAttention has no backward pass on {device.type}. Leave out attention, or train on cuda.")
