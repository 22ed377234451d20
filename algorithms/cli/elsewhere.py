"""Engines and learners in other processes: what is made there, from the configuration of the run."""

import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from arpo_envs import ConfigError

from ..checkpoint import latest
from ..cluster import (
    LEARNERS,
    ClusterPolicy,
    Engines,
    Equipment,
    Listener,
    Origin,
    RankedLearner,
    Ranks,
    ServedPolicy,
    launcher_for,
)
from ..learner import ShardedLearner
from ..models.loading import load_tokenizer
from ..models.sharded_loading import skeleton
from .config import TrainConfig
from .ends import end_ids, keep_ends
from .parts import learner_config, learner_options, renderer_for, sampler

if TYPE_CHECKING:  # it needs packages that other engines do without
    from ..policies.following import Following


@dataclass(frozen=True)
class Description:
    """Makes in a worker what it works with, from the configuration of the run.

    Args:
        config: resolved.
        folder: of the policy that the run starts from; the worker sees it by the same path.
        dialect: of the environments.
        client: describes the client of a server, if that draws.
    """

    config: TrainConfig
    folder: Path
    dialect: str
    client: "Following | None" = None

    def __call__(self) -> Equipment:
        """Returns a policy, whose weights are still those of the folder, and a renderer.

        Raises:
            FileNotFoundError: the folder is not there.
        """
        if not self.folder.is_dir():  # not a mistake for certain: a file system may come back
            named = "--policy" if self.client is None else "--model-folder"
            raise FileNotFoundError(
                f"The machine {platform.node()} does not see {self.folder}, from which the run starts. Engines need it under "
                f"the same path: give {named} a folder that all machines see, or --output if the run makes its own policy."
            )
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        tokenizer = load_tokenizer(self.folder)
        client = self.client
        policy = sampler(self.config, self.folder, None, tokenizer) if client is None else client.make(tokenizer)
        return Equipment(policy, renderer_for(self.folder, tokenizer, self.dialect))


def engines_for(config: TrainConfig, folder: Path, dialect: str, listener: Listener = Listener()) -> ClusterPolicy:
    """Returns the stand-in of a run's engines, which are started by its first `load`.

    Args:
        config: resolved.
        folder: of the policy that the run starts from.
        dialect: of the environments.
        listener: is told of them.
    """
    placement, is_served = config.placement, config.source.urls is not None
    options: dict[str, Any] = {"count": placement.processes}
    if config.device.partition(":")[0] == "cuda" and not is_served:
        options["gpus"] = 1.0
    launcher = launcher_for(placement.cluster, config.output or Path(), **options)
    make = Description(config, folder.absolute(), dialect)
    if not is_served:
        return ClusterPolicy(Engines(launcher, make, placement.count, listener=listener))
    from ..policies.following import Following
    from ..policies.openai import OpenAIPolicy

    server = sampler(config, folder, None, load_tokenizer(folder))
    assert isinstance(server, OpenAIPolicy), "a policy behind a URL is one"
    make = replace(make, client=Following.of(server, placement.count))
    return ServedPolicy(Engines(launcher, make, placement.count, listener=listener), server, lambda: server.delivered)


@dataclass(frozen=True)
class RankDescription:
    """Makes in a rank the learner that it works with, from the configuration of the run.

    Args:
        config: resolved.
        start: folder of the policy that the run starts from.
    """

    config: TrainConfig
    start: Path

    @property
    def device(self) -> str:
        """Where ranks compute."""
        return self.config.device

    def __call__(self, policy: Path, mesh: Any) -> ShardedLearner:
        """Returns the learner of a model of which no rank holds all weights."""
        config, count = self.config, self.config.placement.learners
        torch.set_num_threads(config.threads or max(1, torch.get_num_threads() // count))
        how = learner_config(config)
        model = skeleton(policy)
        keep_ends(model, end_ids(self.start, load_tokenizer(self.start)))
        return ShardedLearner(model, how, mesh=mesh, folder=policy, **learner_options(config))


def learner_for(config: TrainConfig, start: Path, policy: Path, listener: Listener = Listener()) -> RankedLearner:
    """Returns the stand-in of a learner whose model lies on ranks, which are started.

    Args:
        config: resolved.
        start: folder of the policy that the run starts from.
        policy: folder of the policy that it continues from.
        listener: is told of them.

    Raises:
        ConfigError: the model cannot be trained like this; there are too few GPUs.
    """
    placement, run = config.placement, config.output or Path()
    is_here = placement.cluster == "local"
    if config.device not in ("cpu", "cuda"):
        raise ConfigError(f"--learners {placement.learners} needs --device cuda, for a GPU each, or --device cpu.")
    if config.device == "cuda" and is_here and torch.cuda.device_count() < placement.learners:
        raise ConfigError(f"--learners {placement.learners} needs as many GPUs; here are {torch.cuda.device_count()}.")
    home = run / LEARNERS

    def newest() -> Origin:
        done = latest(run, listener.tell)
        if done is None:
            return Origin(start.absolute())
        whole = done.policy if learner_config(config).lora is None else start
        return Origin(whole.absolute(), done.learner.absolute())

    ranks = Ranks(
        launcher_for(placement.cluster, home, 1.0 if config.device == "cuda" else 0.0, placement.processes),
        RankDescription(config, start.absolute()),
        placement.learners,
        home,
        tell=listener.tell,
        show=listener.ranks,
        loopback=is_here,
    )
    return RankedLearner(ranks, Origin(policy.absolute()), newest)
