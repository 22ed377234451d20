"""The comparison before a run over all architectures, on one device: `python tests/algorithms/agreement_sweep.py cuda FILE`."""

import asyncio
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import architectures
import torch
from model_toys import byte_tokenizer

from algorithms.learner import LearnerConfig, TorchLearner
from algorithms.models import agreement
from algorithms.models.devices import device_name, find_device
from algorithms.packing import packable
from algorithms.policies.local import LocalPolicy
from arpo_envs import ConfigError

CONTEXT = 96
WIDE = {"hidden_size": 64, "head_dim": 16}
"""FlexAttention has no kernels for heads of fewer than 16."""
FLEX = (
    "llama",
    "llama-yarn",
    "mistral-window",
    "phi3-window",
    "qwen3",
    "qwen3-moe",
    "gemma2",
    "gemma3-text",
    "gpt-oss",
    "gpt2",
    "cohere2",
    "olmo2",
)


@dataclass(frozen=True)
class Setting:
    """What is the same for a whole table.

    Args:
        device: name of it.
        dtype: of weights and sums.
        attention: of model and engine, or "flex_attention" of the learner's alone.
        products: precision of matrix products in float32, as torch calls them.
    """

    device: str
    dtype: str = "float32"
    attention: str = "sdpa"
    products: str = "highest"


def settings(device: str) -> list[Setting]:
    """Returns those that are tried."""
    usual = [Setting(device, *names) for names in product(("float32", "bfloat16"), ("sdpa", "eager"))]
    flex = [Setting(device, dtype, "flex_attention") for dtype in ("float32", "bfloat16")]
    return [*usual, Setting(device, products="high"), *flex]


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Sets the precision of float32's matrix products."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def wide_heads(wanted: bool) -> Iterator[None]:
    """Makes the zoo's models a little larger."""
    before = dict(architectures._SMALL)
    architectures._SMALL.update(WIDE if wanted else {})
    try:
        yield
    finally:
        architectures._SMALL.update(before)


def compared(name: str, setting: Setting, spoil: Any = lambda policy: None) -> dict[str, Any]:
    """Returns what the comparison says of an architecture; differences in units of what rounding explains."""
    flex = setting.attention == "flex_attention"
    with wide_heads(flex):
        model = architectures.ARCHITECTURES[name]().to(getattr(torch, setting.dtype))
    if setting.attention == "eager":
        model.set_attn_implementation("eager")
    device = find_device(setting.device)
    with products_in(setting.products):
        return asyncio.run(
            _compared(
                model.to(device),
                LearnerConfig(learning_rate=1e-2, attention="flex_attention" if flex else "as-loaded"),
                device,
                spoil,
            )
        )


async def _compared(model: Any, config: LearnerConfig, device: torch.device, spoil: Any) -> dict[str, Any]:
    try:
        policy = LocalPolicy(model, byte_tokenizer(), device=device, context_length=CONTEXT, slots=16)
    except ConfigError as error:
        return {"refused": str(error)}
    try:
        spoil(policy)
        learner = TorchLearner(model, config, device=device)
        found = await agreement.compare(policy, learner)
    finally:
        await policy.close()
    worst = max(found.differences, key=lambda one: one.nats / one.allowed if one.allowed else float("inf"))
    if found.refusal is not None:
        return {"refused": found.refusal, "way": found.differences[-1].way.name}
    said = {"nats": worst.nats, "of_allowed": worst.nats / worst.allowed, "way": worst.way.name}
    return said | ({"flat": found.unpacked} if found.unpacked else {"packed_of_allowed": _packed(learner.model)})


def _packed(model: Any) -> float:
    """Returns how far packed rows are from flat ones, in units of what rounding explains."""
    return max(packable.difference(model, n, 8) / (packable.ROOM * packable.rounding(model, n)) for n in (32, CONTEXT))


def one(job: tuple[str, Setting]) -> dict[str, Any]:
    """Compares one architecture in a process that has one thread; what the comparison lets through is a finding, too."""
    torch.set_num_threads(1)
    name, setting = job
    try:
        return {"architecture": name, **vars(setting), **compared(name, setting)}
    except Exception as error:  # whatever it is, the other architectures are to be compared
        return {"architecture": name, **vars(setting), "raised": f"{type(error).__name__}: {error}".partition("\n")[0]}


def main(device: str, file: Path, *only: str) -> None:
    """Writes what was found; of the settings those whose words are all of `only`, e.g. float32 sdpa."""
    jobs = [
        (name, setting)
        for setting in settings(device)
        if set(only) <= {setting.dtype, setting.attention, setting.products}
        for name in (FLEX if setting.attention == "flex_attention" else architectures.ARCHITECTURES)
    ]
    found: list[dict[str, Any]] = []
    with ProcessPoolExecutor(10, mp_context=get_context("spawn")) as pool:
        for result in pool.map(one, jobs):
            found.append(result)
            record = {"device": device_name(find_device(device)), "torch": torch.__version__, "found": found}
            file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
