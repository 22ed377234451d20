"""Engines in other processes: what is made there, from the configuration of the run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..cluster import ClusterPolicy, Engines, Equipment, Listener, launcher_for
from ..models.loading import load_tokenizer
from .config import TrainConfig
from .parts import renderer_for, sampler


@dataclass(frozen=True)
class Description:
    """Makes in a worker what it works with, from the configuration of the run.

    Args:
        config: resolved.
        folder: of the policy that the run starts from; the worker sees it by the same path.
        dialect: of the environments.
    """

    config: TrainConfig
    folder: Path
    dialect: str

    def __call__(self) -> Equipment:
        """Returns a policy, whose weights are still those of the folder, and a renderer."""
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        tokenizer = load_tokenizer(self.folder)
        policy = sampler(self.config, self.folder, None, tokenizer)
        return Equipment(policy, renderer_for(self.folder, tokenizer, self.dialect))


def engines_for(config: TrainConfig, folder: Path, dialect: str, listener: Listener = Listener()) -> ClusterPolicy:
    """Returns the stand-in of a run's engines, which are started by its first `load`.

    Args:
        config: resolved.
        folder: of the policy that the run starts from.
        dialect: of the environments.
        listener: is told of them.
    """
    placement, options = config.placement, dict[str, Any]()
    if config.device.partition(":")[0] == "cuda":
        options["gpus"] = 1.0
    launcher = launcher_for(placement.cluster, config.output or Path(), **options)
    make = Description(config, folder.absolute(), dialect)
    return ClusterPolicy(Engines(launcher, make, placement.count, listener=listener))
