"""What a rollout through an engine costs, compared with the engine's model alone: tokens per second, and tokens computed."""

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym

from arpo_envs import ArpoError, ConfigError, ForkLevel, TextSpace, ToolSpec

from .. import seeds
from ..branching.none import NoBranching
from ..policies import Policy
from ..recipes import make
from ..rendering.renderer import Encoded
from ..rollout import Limits, Start, collect
from ..tree import RolloutTree, Status


class DifferentWork(ArpoError):
    """The two schedulers did not play the same episodes, so their times cannot be compared."""


@dataclass(frozen=True)
class Shape:
    """How long things are, in tokens.

    Args:
        paths: episodes at the same time.
        prompt: of an episode.
        action: of every action, exactly: nothing stops it early.
        observation: of every tool result.
        turns: actions of an episode.
    """

    paths: int = 64
    prompt: int = 64
    action: int = 32
    observation: int = 16
    turns: int = 3

    @property
    def context_length(self) -> int:
        """Tokens of a whole episode."""
        return self.prompt + self.turns * (self.action + self.observation)

    @property
    def drawn(self) -> int:
        """Tokens that all paths draw together."""
        return self.paths * self.turns * self.action


@dataclass(frozen=True)
class Independent:
    """One path per prompt; what `collect` needs from an algorithm."""

    branching: NoBranching = NoBranching()
    rollouts: int = 1


class Turns(gym.Env[str, str]):
    """Returns the same text a number of times; every action counts as a tool call."""

    fork_level = ForkLevel.EXACT
    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]  # as in core.py

    def __init__(self, turns: int) -> None:
        self.observation_space = self.action_space = TextSpace()
        self.turns, self.left = turns, turns

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begins."""
        super().reset(seed=seed)
        self.left = self.turns
        return f"prompt {seed}", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Counts."""
        self.left -= 1
        return "result", 0.0, self.left == 0, False, {"tool": "turn"}


@dataclass(frozen=True)
class NoiseRenderer:
    """Turns texts into random ids of a fixed number, so that no tokenizer is needed."""

    shape: Shape
    vocabulary_size: int
    dialect: str = "tags"
    stop_tokens: tuple[int, ...] = ()

    def start(
        self, instructions: str, task: str, tools: Sequence[ToolSpec], examples: Sequence[Sequence[str]] = ()
    ) -> tuple[int, ...]:
        """Returns the ids of a prompt."""
        return self._ids(task, self.shape.prompt)

    def observation(self, text: str, limit: int, *, ended: bool = False) -> Encoded:
        """Returns the ids of a result."""
        return Encoded(self._ids(text, min(limit, self.shape.observation)), text, False)

    def text(self, tokens: Sequence[int]) -> str:
        """Returns nothing: the text is not read."""
        return ""

    def action(self, text: str) -> str:
        """Returns the text as it is."""
        return text

    def _ids(self, text: str, count: int) -> tuple[int, ...]:
        return tuple(seeds.generator("noise", text).integers(5, self.vocabulary_size, size=count).tolist())


def small_model(vocabulary_size: int, context_length: int, *, width: int = 128, layers: int = 2) -> Any:
    """Returns an untrained Llama of the size of the embedded policy; speed does not depend on what it knows."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary_size,
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=layers,
                num_attention_heads=max(1, width // 32),
                max_position_embeddings=context_length,
                eos_token_id=None,
                bos_token_id=None,
                pad_token_id=0,
            )
        )
    return model.eval()


async def through(policy: Policy, shape: Shape, *, seed: int) -> tuple[list[RolloutTree], float]:
    """Returns the trees of a batch of episodes in free mode, and the seconds they took."""
    renderer = NoiseRenderer(shape, policy.vocabulary_size)
    limits = Limits(mode="free", action_tokens=shape.action, answer_reserve=0)
    starts = [Start(path) for path in range(shape.paths)]
    began = time.perf_counter()
    trees = await collect(lambda: Turns(shape.turns), starts, policy, renderer, Independent(), seed=seed, limits=limits)
    taken = time.perf_counter() - began
    faults = {node.status for tree in trees for node in tree.nodes} - {None, Status.ANSWERED}
    if faults:
        raise DifferentWork(f"The engine did not draw everything that was asked for: {', '.join(sorted(map(str, faults)))}.")
    return trees, taken


def contexts(trees: Sequence[RolloutTree]) -> list[list[list[int]]]:
    """Returns for every turn the token lists that were continued in it: what bare generation gets as its input."""
    turns: list[list[list[int]]] = []
    for tree in trees:
        before: list[int] = []
        turn = 0
        for node in tree.nodes:  # a path without forks: its nodes are in order
            if node.kind == "action":
                turns += [[]] * (turn == len(turns))
                turns[turn] = [*turns[turn], list(before)]
                turn += 1
            before += node.tokens
    return turns


def generate_bare(model: Any, lists: Sequence[Sequence[Sequence[int]]], action: int) -> float:
    """Returns the seconds that `model.generate` takes for the same token lists, a batch per turn."""
    import torch

    began = time.perf_counter()
    for batch in lists:
        ids_BT = torch.tensor(batch, device=model.device)
        with torch.inference_mode():
            drawn_BT = model.generate(
                ids_BT,
                attention_mask=torch.ones_like(ids_BT),
                do_sample=True,
                top_k=0,
                max_new_tokens=action,
                min_new_tokens=action,
            )
        assert drawn_BT.shape[1] == ids_BT.shape[1] + action
    return time.perf_counter() - began


async def generate_bare_vllm(engine: Any, lists: Sequence[Sequence[Sequence[int]]], action: int) -> float:
    """Returns the seconds that vLLM alone takes for the same token lists, a batch per turn, beginning with an empty cache."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    only_the_end = {"output_kind": RequestOutputKind.FINAL_ONLY, "detokenize": False}
    params = SamplingParams(max_tokens=action, min_tokens=action, ignore_eos=True, **only_the_end)

    async def draw(turn: int, number: int, context: Sequence[int]) -> None:
        async for output in engine.generate({"prompt_token_ids": list(context)}, params, f"bare-{turn}-{number}"):
            assert len(output.outputs[0].token_ids) == action

    await engine.reset_prefix_cache()
    began = time.perf_counter()
    for turn, batch in enumerate(lists):
        await asyncio.gather(*(draw(turn, number, context) for number, context in enumerate(batch)))
    return time.perf_counter() - began


@dataclass(frozen=True)
class Beside:
    """One round of an engine, and the same generation without a rollout.

    Args:
        tokens: drawn by each.
        ours: seconds through `collect`.
        bare: seconds of the model's, or the engine's, own generation.
    """

    tokens: int
    ours: float
    bare: float

    @property
    def ratio(self) -> float:
        """Tokens per second through `collect` over those of bare generation."""
        return self.bare / self.ours


async def local_beside_generate(shape: Shape, model: Any, *, rounds: int) -> list[Beside]:
    """Returns for each round what the local engine takes, beside `model.generate`."""
    from ..policies.local import LocalPolicy

    policy = LocalPolicy(model, tokenizer=None, device=str(model.device), context_length=shape.context_length)
    found = []
    for number in range(rounds + 1):
        trees, ours = await through(policy, shape, seed=number)
        found.append(Beside(shape.drawn, ours, generate_bare(model, contexts(trees), shape.action)))
    await policy.close()
    return found[1:]  # the first warms up


def has_vllm() -> bool:
    """Returns whether vLLM is installed, and can be imported."""
    from ..policies.vllm import require_vllm

    try:
        require_vllm()
    except ConfigError:
        return False
    return True


async def vllm_beside_generate(shape: Shape, model: Any, *, rounds: int, **options: Any) -> list[Beside]:
    """Returns the same for vLLM, beside its own engine's bare generation.

    Args:
        shape: of the episodes.
        model: a small one, which is saved for vLLM to load.
        rounds: that count.
        options: further arguments of `VLLMPolicy`.

    Raises:
        ConfigError: vLLM is not installed.
    """
    from ..policies.vllm import VLLMPolicy

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        policy = VLLMPolicy(Path(folder), None, context_length=shape.context_length, **options)
        found = []
        try:
            for number in range(rounds + 1):
                trees, ours = await through(policy, shape, seed=number)
                bare = await generate_bare_vllm(policy.engine, contexts(trees), shape.action)
                found.append(Beside(shape.drawn, ours, bare))
        finally:
            await policy.close()
    return found[1:]  # the first warms up


async def prefill_over_unique(shape: Shape, *, seed: int) -> Mapping[str, float]:
    """Returns how many tokens the local engine computed for ARPO's trees, over the number of unique ones in them.

    The last token of a path is sampled, never computed; all others must be, once.
    """
    from ..policies.local import LocalPolicy

    model = small_model(2048, shape.context_length)
    policy = LocalPolicy(model, tokenizer=None, context_length=shape.context_length)
    renderer = NoiseRenderer(shape, policy.vocabulary_size)
    algorithm = make("arpo", rollouts=16, roots=8, probe=4)
    limits = Limits(mode="free", action_tokens=shape.action, answer_reserve=0)
    starts = [Start(path) for path in range(max(1, shape.paths // 16))]
    trees = await collect(lambda: Turns(shape.turns), starts, policy, renderer, algorithm, seed=seed, limits=limits)
    computed = policy.prefilled_tokens
    await policy.close()
    unique = sum(len(node.tokens) for tree in trees for node in tree.nodes) - sum(len(tree.leaves()) for tree in trees)
    return {
        "prefill_over_unique": computed / unique,
        "forks": float(sum(node.origin == "branch" for tree in trees for node in tree.nodes)),
    }
