"""New weights for engines on the device: how long they take, and that they arrive, by the probe that watches runs."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import torch

from ...learner import LearnerConfig, TorchLearner, merged_state, write_weights
from ...models.agreement import WeightProbe, WeightsDiffer
from ...policies import Policy
from ...policies.local import LocalPolicy
from ...policies.transfer_sync import through_ipc
from ...policies.vllm import VLLMPolicy
from ..weights import model_of
from .measures import Broken, Numbers, Setting, Skipped, require
from .options import dtype_of, on_cuda, vllm_options

MODELS = {"full": "1.5B", "toy": "1.4M"}
UPDATES = 3
"""The quickest counts."""
_CONTEXT = 256
_NUDGE = 0.5
"""Of a weight's usual size, that an update changes it by: so much that nothing takes it for rounding."""


def in_process(setting: Setting) -> Numbers:
    """Measures the local engine, which shares the device with the learner."""

    async def run() -> Numbers:
        learner = learner_of(setting)
        policy = LocalPolicy(
            model_of(MODELS[setting.sizes]), None, device=setting.device, dtype=dtype_of(setting), context_length=_CONTEXT
        )
        try:
            return await updated(policy, learner)
        finally:
            await policy.close()

    return asyncio.run(run())


def sleep_and_wake(setting: Setting) -> Numbers:
    """Measures vLLM asleep while the learner has the device, and awake with the weights after that.

    Raises:
        Skipped: vLLM is not installed, or cannot sleep here.
    """
    options = vllm_options(setting, eager=True)
    if not on_cuda(setting):
        raise Skipped(f"vLLM cannot sleep on {setting.device}")
    return asyncio.run(_with_engine(woken, setting, colocated=True, **options))


def by_ipc(setting: Setting) -> Numbers:
    """Measures weights that vLLM reads where the learner has them, by CUDA's communication between processes.

    Raises:
        Skipped: vLLM is not installed, or this is not a GPU.
    """
    options = vllm_options(setting, eager=True, weight_transfer_config={"backend": "ipc"})
    if not on_cuda(setting):
        raise Skipped(f"there is no CUDA IPC on {setting.device}")
    return asyncio.run(_with_engine(updated, setting, sync=through_ipc, **options))


async def woken(policy: VLLMPolicy, learner: TorchLearner) -> Numbers:
    """Puts an engine with the learner's weights to sleep, wakes it with new ones, and looks whether it draws with them.

    Raises:
        Broken: it does not.
    """
    probe = WeightProbe(policy, learner)
    await probe.begin()
    free = [_free(learner.device)]
    seconds = await _timed(policy.sleep())
    free.append(_free(learner.device))
    for seed in range(UPDATES):
        nudge(learner.model, seed)
    found: Numbers = {"sleep_seconds": seconds, "wake_seconds": await _timed(policy.load(learner.weights(), 1))}
    free.append(_free(learner.device))
    found |= {f"free_megabytes_{when}": one for when, one in zip(("awake", "asleep", "woken"), free, strict=True)}
    return found | await arrived(probe, found)


async def updated(policy: Policy, learner: TorchLearner) -> Numbers:
    """Gives a policy with the learner's weights new ones, a few times, and looks whether it draws with the last.

    Raises:
        Broken: it does not.
    """
    probe = WeightProbe(policy, learner)
    await probe.begin()
    seconds = []
    for version in range(1, UPDATES + 1):
        nudge(learner.model, version)
        seconds.append(await _timed(policy.load(learner.weights(), version)))
    megabytes = sum(weight.nbytes for weight in learner.model.parameters()) / 2**20
    found: Numbers = {"megabytes": megabytes, "update_seconds": min(seconds), "first_update_seconds": seconds[0]}
    return found | await arrived(probe, found)


async def arrived(probe: WeightProbe, found: Numbers) -> Numbers:
    """Returns what the probe saw.

    Raises:
        Broken: weights did not arrive, or it cannot tell.
    """
    began = time.perf_counter()
    try:
        seen = await probe.require()
    except WeightsDiffer as error:
        raise Broken(str(error), found) from error
    require(bool(seen) and all(one.known for one in seen), "the probe cannot tell whether the weights arrived", found)
    worst = max(seen, key=lambda one: one.nats)
    return {"probe_seconds": time.perf_counter() - began, "nats_apart": worst.nats, "nats_allowed": worst.allowed}


@asynccontextmanager
async def started(setting: Setting, **options: Any) -> AsyncIterator[tuple[VLLMPolicy, TorchLearner]]:
    """Gives a vLLM engine and a learner with the same weights, on the same device."""
    learner = learner_of(setting)
    with tempfile.TemporaryDirectory(prefix="arpo-bench-gpu-") as folder:
        learner.model.config.save_pretrained(folder)
        write_weights(Path(folder), merged_state(learner.model))
        policy = VLLMPolicy(Path(folder), None, context_length=_CONTEXT, **options)
        try:
            yield policy, learner
        finally:
            await policy.close()


def learner_of(setting: Setting) -> TorchLearner:
    """Returns a learner of a random model, which is not trained: its weights are moved at random."""
    model = model_of(MODELS[setting.sizes]).to(dtype_of(setting))
    return TorchLearner(model, LearnerConfig(learning_rate=0.0), device=setting.device)


@torch.no_grad()
def nudge(model: Any, seed: int) -> None:
    """Moves all weights, as an update does, only further."""
    draws = torch.Generator(model.device).manual_seed(seed)
    for weight in model.parameters():
        noise = torch.randn(weight.shape, generator=draws, device=weight.device, dtype=weight.dtype)
        weight.add_(_NUDGE * weight.abs().mean() * noise)


async def _with_engine(
    measure: Callable[[VLLMPolicy, TorchLearner], Awaitable[Numbers]], setting: Setting, **options: Any
) -> Numbers:
    async with started(setting, **options) as (policy, learner):
        return await measure(policy, learner)


async def _timed(work: Awaitable[None]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def _free(device: torch.device) -> float:
    """Returns a GPU's free memory, megabytes; 0 elsewhere."""
    return torch.cuda.mem_get_info(device)[0] / 2**20 if device.type == "cuda" else 0.0
