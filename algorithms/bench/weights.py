"""`arpo bench weights`: what it takes to give an engine new weights, through each transport that this machine has."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError

from ..cli.results import Value
from ..cluster import ClusterPolicy, Engines, Equipment, launcher_for
from ..learner import LearnerConfig, TorchLearner, WeightSource, merged_state, write_weights
from ..models.agreement import WeightProbe
from ..policies.export import export_weights
from ..policies.local import LocalPolicy
from ..rendering.text import ScriptedRenderer
from .bounds import Bound
from .check import Benchmark, Say, silent

Size = Literal["1.4M", "135M", "1.5B"]
Transport = Literal["in-process", "folder", "local", "ray", "vllm"]

SIZES: Mapping[str, Mapping[str, Any]] = {
    "1.4M": {"width": 128, "inner": 256, "layers": 6, "heads": 4, "groups": 4, "vocabulary": 1600, "tied": False},
    "135M": {"width": 576, "inner": 1536, "layers": 30, "heads": 9, "groups": 3, "vocabulary": 49152, "tied": True},
    "1.5B": {"width": 1536, "inner": 8960, "layers": 28, "heads": 12, "groups": 2, "vocabulary": 151936, "tied": True},
}
"""Of the embedded policy, of SmolLM2-135M and of Qwen2.5-1.5B."""
HALVED = ("1.5B",)
"""Sizes in bfloat16; the others are in float32."""
BOUNDS = {"in_process_over_copy_at_135M": Bound("≤", 4.0)}
"""An update within a process is little more than one copy of the weights."""
_CONTEXT = 256
_COPIES = {"in-process": 2.3, "folder": 1.3, "local": 3.3, "ray": 3.3, "vllm": 5.0}
"""Times the weights are in memory at the most; vLLM repacks them on a CPU."""
_SPARE = 2 << 30
"""Bytes of memory that are left alone."""
_ROWS = (
    ("weights, MB", "megabytes", ",.1f"),
    ("in a folder, MB", "folder_megabytes", ",.1f"),
    ("one copy, s", "copy_seconds", ",.4f"),
    ("within the process, s", "in_process_seconds", ",.4f"),
    ("into a folder, s", "folder_seconds", ",.4f"),
    ("--cluster local, s", "local_seconds", ",.4f"),
    ("--cluster ray, s", "ray_seconds", ",.4f"),
    ("into vLLM, s", "vllm_seconds", ",.4f"),
    ("probe, s", "probe_seconds", ",.4f"),
)
"""Title, measurement and format of each row of the table."""


@dataclass(frozen=True)
class WeightsBench:
    """Measure weight updates of models that know nothing."""

    sizes: tuple[Size, ...] = ("1.4M", "135M", "1.5B")
    """Models, by their parameters. Models for which there is not enough memory are left out, and named."""
    transports: tuple[Transport, ...] = ("in-process", "folder", "local", "ray", "vllm")
    """in-process: into the local engine. folder: written as a model folder, which is the first half of an update through one.
    local: through a folder into an engine in a process of its own (`--cluster local`). ray: through Ray's object store into an
    engine that is an actor (`--cluster ray`), if Ray is installed. vllm: through a folder into vLLM, if it is installed."""
    rounds: int = 3
    """Updates of each; the quickest counts, because other work on the machine only adds to it."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.rounds < 1 or not self.sizes or not self.transports:
            raise ConfigError("There must be at least one size, one transport and one round.")


def measure(config: WeightsBench, say: Say = silent) -> dict[str, Value]:
    """Returns seconds and megabytes of an update, flat.

    `T_seconds_at_S`: of one update by transport T of the model of size S; `copy_seconds_at_S` of copying its weights once;
    `probe_seconds_at_S` of looking whether they arrived. `megabytes_at_S`, `folder_megabytes_at_S`: what travels.
    """
    found: dict[str, Value] = {}
    for size in config.sizes:
        free = _free()
        short = {way: need for way in config.transports if free is not None and (need := _need(size, way)) > free}
        for way, need in short.items():
            found[f"left_out_{way}_{size}"] = f"needs {need / 1e9:.1f} GB of memory, and {(free or 0) / 1e9:.1f} are free"
        if ways := [way for way in config.transports if way not in short]:
            found |= _measured(ways, config.rounds, size, lambda what, size=size: say(f"{size}, {what} …"))  # type: ignore[misc]
    copy, update = (found.get(f"{way}_seconds_at_135M") for way in ("copy", "in_process"))
    if isinstance(copy, float) and isinstance(update, float):
        compared: dict[str, Value] = {"absent": "", "in_process_over_copy_at_135M": update / copy}
    else:
        compared = {"absent": "memory for 135M", "in_process_over_copy_at_135M": None}
    return compared | found | {"torch": torch.__version__, "rounds": config.rounds, "threads": torch.get_num_threads()}


def _need(size: str, transport: str) -> int:
    """Returns about how many bytes a measurement takes: the learner's weights, the engine's, and those on their way."""
    shape = SIZES[size]
    heads = 2 + 2 * shape["groups"] / shape["heads"]
    layer = shape["width"] * (heads * shape["width"] + 3 * shape["inner"])
    numbers = shape["vocabulary"] * shape["width"] * (1 if shape["tied"] else 2) + shape["layers"] * layer
    return int(numbers * (2 if size in HALVED else 4) * _COPIES[transport]) + _SPARE


def _free() -> int | None:
    """Returns how many bytes of memory can be had; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)


def model_of(size: str) -> Any:
    """Returns an untrained model of a size."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = SIZES[size]
    config = LlamaConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["width"],
        intermediate_size=shape["inner"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["groups"],
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=shape["tied"],
        eos_token_id=None,
        bos_token_id=None,
        dtype=torch.bfloat16 if size in HALVED else torch.float32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = LlamaForCausalLM._from_config(config)  # type: ignore[no-untyped-call]
    return model.eval()


def _measured(transports: Sequence[str], rounds: int, size: str, say: Say) -> dict[str, Value]:
    """Returns what updates of a model of one size take."""
    say("random weights")
    model = model_of(size)
    weights = merged_state(model)
    tensors = {tensor.data_ptr(): tensor for tensor in weights.values()}.values()  # a tied one travels once
    found: dict[str, Value] = {
        f"parameters_at_{size}": sum(tensor.numel() for tensor in tensors),
        f"megabytes_at_{size}": sum(tensor.nbytes for tensor in tensors) / 1e6,
    }
    if "in-process" in transports:
        say("within the process")
        found |= asyncio.run(_in_process(rounds, size, model, weights))
    with tempfile.TemporaryDirectory(prefix="arpo-bench-weights-") as home:
        if {"folder", "vllm"} & set(transports):
            say("into a folder")
            source, there = Path(home) / "model", Path(home) / "there"
            model.config.save_pretrained(source)
            write_weights(source, weights)
            seconds = [_timed(lambda: export_weights(source, weights, there)) for _ in range(rounds)]
            found[f"folder_seconds_at_{size}"] = min(seconds)
            found[f"folder_megabytes_at_{size}"] = (there / "model.safetensors").stat().st_size / 1e6
        for cluster in ("local", "ray"):
            if cluster in transports:
                say(f"into an engine of --cluster {cluster}")
                found[f"{cluster}_seconds_at_{size}"] = asyncio.run(_into_cluster(cluster, rounds, size, Path(home), weights))
        if "vllm" in transports:
            say("into vLLM")
            found[f"vllm_seconds_at_{size}"] = asyncio.run(_into_vllm(rounds, there, weights))
    return found


async def _in_process(rounds: int, size: str, model: Any, weights: WeightSource) -> dict[str, Value]:
    policy = LocalPolicy(model, tokenizer=None, context_length=_CONTEXT, slots=8)
    pairs = [(tensor, weights[name]) for name, tensor in policy.model.state_dict().items()]
    copies: list[float] = []
    updates: list[float] = []
    for version in range(rounds):
        with torch.inference_mode():
            copies.append(_timed(lambda: [there.copy_(here) for there, here in pairs]))
        began = time.perf_counter()
        await policy.load(weights, version)
        updates.append(time.perf_counter() - began)
    found: dict[str, Value] = {f"copy_seconds_at_{size}": min(copies), f"in_process_seconds_at_{size}": min(updates)}
    if size not in HALVED:  # in bfloat16 a forward pass of a large model takes a CPU minutes
        probe = WeightProbe(policy, TorchLearner(model, LearnerConfig()))
        await probe.begin()
        probes: list[float] = []
        for _ in range(rounds):
            began = time.perf_counter()
            await probe.require()
            probes.append(time.perf_counter() - began)
        found[f"probe_seconds_at_{size}"] = min(probes)
    await policy.close()
    return found


@dataclass(frozen=True)
class _Engine:
    """Makes the equipment of an engine elsewhere, which knows nothing."""

    size: str

    def __call__(self) -> Equipment:
        policy = LocalPolicy(model_of(self.size), tokenizer=None, context_length=_CONTEXT, slots=8)
        return Equipment(policy, ScriptedRenderer())


async def _into_cluster(cluster: str, rounds: int, size: str, home: Path, weights: WeightSource) -> float | None:
    """Returns the seconds of a whole update; None where Ray is asked for and not installed."""
    if cluster == "ray" and find_spec("ray") is None:
        return None
    policy = ClusterPolicy(Engines(launcher_for(cluster, home / cluster), _Engine(size), count=1))
    seconds = []
    try:
        await policy.load(weights, 0)  # which starts the engine
        for version in range(1, rounds + 1):
            began = time.perf_counter()
            await policy.load(weights, version)
            seconds.append(time.perf_counter() - began)
    finally:
        await policy.close()
    return min(seconds)


async def _into_vllm(rounds: int, folder: Path, weights: WeightSource) -> float | None:
    """Returns the seconds of a whole update; None where vLLM is not installed."""
    from ..policies.vllm import VLLMPolicy, require_vllm

    try:
        require_vllm()
    except ConfigError:
        return None
    dtype: Any = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    options = {"enforce_eager": True}
    policy = VLLMPolicy(folder, None, context_length=_CONTEXT, dtype=dtype, cache_bytes=1 << 28, options=options)
    seconds = []
    for version in range(rounds):
        began = time.perf_counter()
        await policy.load(weights, version)
        seconds.append(time.perf_counter() - began)
    await policy.close()
    return min(seconds)


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    sizes = [size for size in SIZES if f"megabytes_at_{size}" in record]
    shown = Table(title="One weight update", title_justify="left", caption_justify="left")
    shown.add_column("")
    for size in sizes:
        shown.add_column(size, justify="right")
    for title, name, how in _ROWS:
        numbers = [record.get(f"{name}_at_{size}") for size in sizes]
        if any(number is not None for number in numbers):
            shown.add_row(title, *("–" if number is None else format(number, how) for number in numbers))
    left_out = [name for name in record if name.startswith("left_out_")]
    lines = [f"{name.removeprefix('left_out_').replace('_', ', ')}, is left out: it {record[name]}." for name in left_out]
    if (ratio := record["in_process_over_copy_at_135M"]) is not None:
        value, bound = BOUNDS["in_process_over_copy_at_135M"].cells(float(ratio), "×")
        lines.append(f"Within a process, 135M takes {value.plain} as long as one copy of the weights (bound {bound.plain}).")
    shown.caption = Text("\n".join(lines))
    return shown


BENCHMARK = Benchmark(WeightsBench, measure, table, BOUNDS, check=WeightsBench(sizes=("135M",), transports=("in-process",)))
