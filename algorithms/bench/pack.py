"""`arpo bench pack`: one update on trees against the same update on flat rows, at fixed sharing ratios, in one run."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from rich.table import Table
from rich.text import Text

from arpo_envs import ConfigError

from .. import seeds
from ..advantages import Array, Credit, Scores, sampled_weights
from ..cli.results import Value
from ..learner import LearnerConfig, TorchLearner
from ..losses.clip import ClipLoss
from ..models.devices import device_name, find_device
from ..tree import NO_PARENT, Node, RolloutTree, Status
from .bounds import Bound
from .check import Benchmark, Say, silent

RATIOS = (1.0, 1.2, 2.0, 3.0, 4.5)


def _speedups(*limits: float) -> dict[str, Bound]:
    return {f"speedup_at_{ratio}": Bound("≥", limit) for ratio, limit in zip(RATIOS, limits, strict=True)}


BOUNDS = _speedups(0.95, 0.95, 0.7 * 2.0, 0.7 * 3.0, 0.7 * 4.5) | {"max_relative_gradient_error": Bound("≤", 1e-5)}
"""With the default sizes on an idle machine: never a loss, and from 2 on seven tenths of the speed-up that the ratio itself
promises; and the rounding of float32."""
SMALL_BOUNDS = _speedups(0.75, 0.75, 1.1, 1.5, 2.0)
"""With one tree, two layers and one thread, as in `--check`: costs that do not depend on the tokens weigh more there.
Measured were 0.95, 0.95, 1.45, 2.0 and 2.8."""
LEAVES = 16
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class PackBench:
    """Measure updates on packed trees."""

    trees: int = 2
    """Trees of 16 leaves."""
    path: int = 256
    """Tokens of each path to a leaf."""
    rounds: int = 5
    """Rounds; their median counts."""
    width: int = 256
    """Width of the transformer."""
    layers: int = 6
    """Layers of the transformer."""
    vocabulary: int = 2048
    """Vocabulary size of the transformer."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of its weights and computations."""
    token_budget: int = 4096
    """Tokens per micro-batch, padding included, of packed and flat updates. On a CPU, flat rows are slower with fewer and with
    more."""
    threads: int | None = None
    """PyTorch CPU threads (default: PyTorch's own choice)."""
    device: str = "cpu"
    """cpu or cuda."""
    attention: Literal["as-loaded", "flex_attention"] = "as-loaded"
    """Attention of packed and flat updates. as-loaded: the one that the model was loaded with. flex_attention: FlexAttention,
    which needs CUDA."""
    json: Path | None = None
    """File for the result as one flat object."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if min(self.trees, self.rounds, self.layers, self.token_budget, self.threads or 1) < 1:
            raise ConfigError("trees, rounds, layers, token_budget and threads must be at least 1.")
        if min(self.width, self.path, self.vocabulary) < 32:
            raise ConfigError("width, path and vocabulary must be at least 32.")


def measure(config: PackBench, say: Say = silent) -> dict[str, Value]:
    """Returns speed-ups, memory ratios and the largest gradient error, flat.

    `speedup_at_R`: time of the flat update over that of ours. `memory_ratio_at_R`: the same for the memory kept for
    the backward pass, on CUDA for the peak memory that an update adds; `flat_megabytes_at_R`: that of the flat update.
    `path_tokens_at_R`: tokens of all paths together. `max_relative_gradient_error`: max |difference| / max |gradient|, for
    the worst parameter at the worst ratio.

    Raises:
        ConfigError: there is no such device.
    """
    find_device(config.device)
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads or before)
    try:
        return _measure(config, say)
    finally:
        torch.set_num_threads(before)


def _measure(config: PackBench, say: Say) -> dict[str, Value]:
    found: dict[str, Value] = {"device": device_name(find_device(config.device)), "threads": torch.get_num_threads()}
    errors = []
    for ratio in RATIOS:
        say(f"sharing ratio {ratio} …")
        numbers, error = at_ratio(config, ratio)
        found |= {f"{name}_at_{ratio}": value for name, value in numbers.items()}
        errors.append(error)
    found["max_relative_gradient_error"] = max(errors)
    rounded = {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}
    return rounded | {
        "max_relative_gradient_error": max(errors),
        "width": config.width,
        "layers": config.layers,
        "path": config.path,
        "vocabulary": config.vocabulary,
        "dtype": config.dtype,
        "token_budget": config.token_budget,
        "torch": torch.__version__,
        "attention": config.attention,
    }


def at_ratio(config: PackBench, ratio: float) -> tuple[dict[str, float], float]:
    """Returns the numbers of both ways at one sharing ratio, as in `measure`, and the gradient error."""
    trees = trees_of(config, ratio)
    ways = {packing: Update(config, trees, packing) for packing in ("flat", "auto")}
    for way in ways.values():
        way.once()  # the first one checks the model, and warms up
    times = [{name: way.once() for name, way in ways.items()} for _ in range(config.rounds)]
    memory = {name: way.memory() for name, way in ways.items()}
    numbers = {
        "sharing_ratio": ways["auto"].sharing,
        "speedup": median(one["flat"] / one["auto"] for one in times),
        "flat_seconds": median(one["flat"] for one in times),
        "memory_ratio": memory["flat"] / memory["auto"],
        "flat_megabytes": memory["flat"] / 2**20,
        "path_tokens": sum(len(tree.tokens(leaf)) for tree in trees for leaf in tree.leaves()),
    }
    return numbers, _gradient_error(ways["flat"].gradients(), ways["auto"].gradients())


def trees_of(config: PackBench, ratio: float) -> list[RolloutTree]:
    """Returns the trees of a measurement, whose paths together have the same number of tokens at every ratio."""
    count = config.trees if ratio > 1.0 else config.trees * LEAVES
    return [shared_tree(ratio, seed, config.path, config.vocabulary) for seed in range(count)]


def shared_tree(ratio: float, seed: int, path: int, vocabulary: int, *, entropies: bool = False) -> RolloutTree:
    """Returns a tree whose paths together have `ratio` times as many tokens as the tree has unique ones.

    A prompt, four calls with their results, and four answers to each; at ratio 1 a single path.

    Args:
        ratio: of the two token counts.
        seed: of the tokens and rewards.
        path: tokens of each path.
        vocabulary: ids are below this.
        entropies: whether each sampled token has one of its own; an update does not read them.

    >>> [round(sum(len(tree.tokens(leaf)) for leaf in tree.leaves()) / sum(len(node.tokens) for node in tree.nodes), 1)
    ...  for tree in (shared_tree(ratio, 0, 256, 2048) for ratio in RATIOS)]
    [1.0, 1.2, 2.0, 3.0, 4.5]
    """
    rng = seeds.generator("bench pack", seed)
    shared = round((LEAVES * path - LEAVES * path / ratio) / (2 * LEAVES - 5))
    tree = RolloutTree()

    def add(key: tuple[int, ...], parent: int, kind: Any, count: int, **fields: Any) -> int:
        at = len(tree.nodes[parent].tokens) if parent != NO_PARENT else 0
        sampled = kind == "action"
        tokens = tuple(rng.integers(vocabulary, size=count).tolist())
        logprobs = tuple((rng.normal(-math.log(vocabulary), 0.1, size=count) * sampled).tolist())
        spread = tuple((rng.exponential(size=count) * sampled).tolist()) if entropies else (0.0,) * count
        return tree.add(Node(key, parent, at, kind, tokens, (sampled,) * count, logprobs, spread, **fields))

    if ratio == 1.0:
        prompt = add((), NO_PARENT, "prompt", path // 2)
        add((0,), prompt, "action", path // 2, status=Status.ANSWERED, reward=float(rng.normal()))
        return tree.freeze()
    prompt = add((), NO_PARENT, "prompt", shared)
    for call in range(4):
        action = add((call,), prompt, "action", shared // 2)
        result = add((call, 0), action, "observation", shared - shared // 2)
        for fork in range(4):
            end = {"status": Status.ANSWERED, "reward": float(rng.normal())}
            add((call, 0, fork), result, "action", path - 2 * shared, **end)
    return tree.freeze()


class Update:
    """One way of computing the update, on its own model; the learning rate is 0, so that every round is the same.

    Args:
        config: the sizes, and where to compute.
        trees: to train on.
        packing: "auto" or "flat", as in `LearnerConfig`.
        model: by default that of the sizes.
    """

    def __init__(self, config: PackBench, trees: Sequence[RolloutTree], packing: Any, *, model: Any = None) -> None:
        self.cuda = config.device.startswith("cuda")
        settings = LearnerConfig(
            learning_rate=0.0,
            gradient_clip=1e9,
            micro_batch_tokens=config.token_budget,
            packing=packing,
            attention=config.attention,
        )
        self.learner = TorchLearner(random_model(config) if model is None else model, settings, device=config.device)
        self.trees, self.sharing = trees, 1.0
        self.credit = Credit(tuple(map(_rewards, trees)), tuple(map(sampled_weights, trees)))

    def once(self) -> float:
        """Returns the seconds of one update."""
        began = time.perf_counter()
        metrics = self.learner.update(self.trees, self.credit, Scores(), ClipLoss(), "token")
        if self.cuda:
            torch.cuda.synchronize()
        taken = time.perf_counter() - began
        self.sharing = metrics["sharing_ratio"]
        return taken

    def memory(self) -> float:
        """Returns bytes: the memory kept for the backward pass of the largest micro-batch; on CUDA what an update adds."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self.once()
            return float(torch.cuda.max_memory_allocated() - before)
        kept: dict[int, int] = {}
        most = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        def release(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal most
            most = max(most, sum(kept.values()))
            kept.clear()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, release):
            self.once()
        return float(most)

    def gradients(self) -> dict[str, torch.Tensor]:
        """Returns the gradients of the last update."""
        return {name: parameter.grad for name, parameter in self.learner.model.named_parameters() if parameter.grad is not None}


def _rewards(tree: RolloutTree) -> tuple[Array, ...]:
    """Returns each path's reward as the advantage of all its tokens; without a baseline, so that single paths count."""
    return tuple(np.full(len(tree.tokens(leaf)), tree.total_reward(leaf)) for leaf in tree.leaves())


def random_model(config: PackBench) -> Any:
    """Returns an untrained model of these sizes; the same at every call."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=config.vocabulary,
                hidden_size=config.width,
                intermediate_size=4 * config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=max(1, config.width // 64),
                num_key_value_heads=max(1, config.width // 64),
                max_position_embeddings=4 * config.path,
            )
        )
    return model.to(_DTYPES[config.dtype])


def _gradient_error(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max() / one[name].abs().max()) for name in one)


def table(record: Mapping[str, Value]) -> Table:
    """Returns the table of a measurement."""
    shown = Table(
        title=f"One update on trees, against flat rows ({record['device']})", title_justify="left", caption_justify="left"
    )
    for heading in ("tokens shared", "computed", "flat", "speed-up", "bound", "memory"):
        shown.add_column(heading, justify="right")
    for ratio in RATIOS:
        shown.add_row(
            f"{ratio:.1f}×",
            f"{record[f'sharing_ratio_at_{ratio}']:.2f}×",
            f"{record[f'flat_seconds_at_{ratio}']:.2f} s",
            *BOUNDS[f"speedup_at_{ratio}"].cells(float(record[f"speedup_at_{ratio}"] or 0.0), "×"),
            f"{record[f'memory_ratio_at_{ratio}']:.2f}×",
        )
    shown.caption = Text(
        f"Transformer of {record['layers']} layers, width {record['width']}, {record['dtype']}; paths of {record['path']} "
        f"tokens. Largest gradient difference {record['max_relative_gradient_error']:.1e} of the largest gradient. Flat rows "
        "are bucketed by length; both have the same budget per micro-batch."
    )
    return shown


BENCHMARK = Benchmark(
    PackBench, measure, table, BOUNDS, check=PackBench(trees=1, rounds=3, layers=2, threads=1), check_bounds=SMALL_BOUNDS
)
